"""A call to every learner, whose errors are raised here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def each_learner(group: Any, call: Callable[[Any], Any]) -> list[Any]:
    """What `call(learner)` returns, for each learner of the group.

    Raises:
        Exception: Whatever the first that failed has raised.
    """
    results = list(group.foreach_learner(call))
    for result in results:
        if not result.ok:
            raise result.get()
    return [result.get() for result in results]
