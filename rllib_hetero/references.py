"""Things that are handed on by reference, without whoever hands them on reading them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError


def fetch(thing: Any, timeout_s: float | None = None) -> Any:
    """What a reference refers to; anything else is returned as it is.

    Args:
        thing: A reference, or the thing itself.
        timeout_s: Seconds to wait for it. None: for ever.

    Returns:
        The thing; None if it is lost, because whoever made it is no more, or did not come in time.
    """
    if not isinstance(thing, ray.ObjectRef):
        return thing
    try:
        return ray.get(thing, timeout=timeout_s)
    except RayError:
        return None


def fetch_all(things: Sequence[Any], timeout_s: float | None = None) -> list[Any]:
    """As `fetch`, of several things that are on their way at the same time.

    Args:
        things: References, all of them different, or the things themselves.
        timeout_s: Seconds to wait for all of them. None: for ever.
    """
    references = [thing for thing in things if isinstance(thing, ray.ObjectRef)]
    if references:
        ray.wait(references, num_returns=len(references), timeout=timeout_s)
    return [fetch(thing, timeout_s=0) for thing in things]
