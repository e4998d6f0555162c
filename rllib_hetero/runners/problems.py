"""How a remote runner's broken environment is told of where its results are read: in the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ray.rllib.utils.actor_manager import FaultAwareApply
from ray.rllib.utils.annotations import override

from rllib_hetero.errors import TeamDataError


class Problem:
    """Stands where a call's results should: taking them out raises `TeamDataError`.

    RLlib's loops of evaluation go on until enough has come in. They take every result apart first.
    """

    def __init__(self, message: str) -> None:
        self._message = message

    def __iter__(self) -> Iterator[Any]:
        raise TeamDataError(self._message)


class TellsProblems(FaultAwareApply):
    """A runner that returns a `TeamDataError` instead of dying of it.

    RLlib ends the process of a remote runner that raises, starts another one, and does not raise
    anything in the driver.
    """

    @override(FaultAwareApply)
    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def tell(runner: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return func(runner, *args, **kwargs)
            except TeamDataError as error:
                return Problem(str(error))

        return super().apply(tell, *args, **kwargs)
