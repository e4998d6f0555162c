"""Spaces as data in a file that may come from anybody, and back."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rllib_hetero.errors import TeamError

_MOST_CHOICES = 1_000_000  # of an action
_MOST_NUMBERS = 20_000_000  # of all spaces
_MOST_PARTS = 100_000  # of all spaces
_DEEPEST = 20
_NUMBERS = tuple(str(np.dtype(kind)) for kind in "efdbhilBHIL?")


def describe_space(space: gym.Space) -> dict[str, Any]:
    """A space as JSON: Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of these."""
    if isinstance(space, Box):
        low, high = (bound.astype(float) for bound in (space.low, space.high))
        described = {"kind": "Box", "dtype": str(space.dtype)}
        if len(space.shape) != 1 and space.low.size and _is_one(low) and _is_one(high):
            bounds = {"low": low.flat[0].item(), "high": high.flat[0].item()}
            return described | bounds | {"shape": list(space.shape)}
        return described | {"low": low.tolist(), "high": high.tolist()}
    if isinstance(space, Discrete):
        return {"kind": "Discrete", "n": int(space.n)} | _start(int(space.start))
    if isinstance(space, MultiDiscrete):
        start = space.start.tolist() if np.any(space.start) else 0
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist()} | _start(start)
    if isinstance(space, MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, Dict):
        return {"kind": "Dict", "spaces": {k: describe_space(s) for k, s in space.spaces.items()}}
    assert isinstance(space, Tuple)
    return {"kind": "Tuple", "spaces": [describe_space(s) for s in space.spaces]}


def _is_one(numbers: np.ndarray) -> bool:
    return bool((numbers == numbers.flat[0]).all())


def _start(start: Any) -> dict[str, Any]:
    return {"start": start} if start else {}


class Room:
    """How many numbers and parts the spaces of a file may still have."""

    def __init__(self) -> None:
        self._numbers, self._parts = _MOST_NUMBERS, _MOST_PARTS

    def take(self, numbers: int) -> None:
        """Raises TeamError if a part of so many numbers is too much."""
        self._numbers -= numbers
        self._parts -= 1
        _must(self._numbers >= 0 and self._parts >= 0, "its spaces are too large.")


def read_space(told: Any, room: Room, depth: int = 0) -> gym.Space:
    """The space that is described.

    Args:
        told: As `describe_space` made it, or anything else.
        room: What is left for it.
        depth: How many Dicts and Tuples it is in.

    Raises:
        TeamError: If it is no description of a space, or of one that is too large.
    """
    _must(isinstance(told, dict), f"a space must have a kind, got {told!r:.50}.")
    kind = told.get("kind")
    if kind == "Box":
        return _box(told, room)
    if kind == "Discrete":
        n = _choices(told.get("n"))
        room.take(n)
        return Discrete(n, start=_whole(told.get("start", 0)))
    if kind == "MultiDiscrete":
        return _multi_discrete(told, room)
    if kind == "MultiBinary":
        shape = _shape(told)
        room.take(math.prod(shape))
        return MultiBinary(shape[0] if len(shape) == 1 else shape)
    _must(kind in ("Dict", "Tuple"), f"there is no kind of space {kind!r:.50}.")
    _must(depth < _DEEPEST, "a space is nested too deeply.")
    inner = told.get("spaces")
    _must(isinstance(inner, dict if kind == "Dict" else list), f"a {kind} must have `spaces`.")
    if kind == "Tuple":
        return Tuple([read_space(s, room, depth + 1) for s in inner])  # type: ignore[union-attr]
    items = inner.items()  # type: ignore[union-attr]
    return Dict({str(k): read_space(s, room, depth + 1) for k, s in items})


def _must(good: bool, otherwise: str) -> None:
    if not good:
        raise TeamError(otherwise)


def _whole(n: Any) -> int:
    good = isinstance(n, int) and not isinstance(n, bool) and abs(n) < 2**53
    _must(good, f"a start must be a whole number, got {n!r:.50}.")
    return n


def _choices(n: Any) -> int:
    good = isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= _MOST_CHOICES
    _must(good, f"choices must be a number from 1 to {_MOST_CHOICES:,}, got {n!r:.50}.")
    return n


def _shape(told: dict[str, Any]) -> list[int]:
    shape = told.get("shape")
    if not isinstance(shape, list) or len(shape) > 9:
        raise TeamError(f"a shape must be a list of few numbers, got {shape!r:.50}.")
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
    _must(whole and all(0 <= n <= _MOST_NUMBERS for n in shape), f"{shape!r:.50} is no shape.")
    return shape


def _multi_discrete(told: dict[str, Any], room: Room) -> MultiDiscrete:
    sizes, start = told.get("nvec"), told.get("start", 0)
    _must(isinstance(sizes, list), f"`nvec` must be a list, got {sizes!r:.50}.")
    flat = _flattened(sizes)
    _must(0 < sum(_choices(n) for n in flat) <= _MOST_CHOICES, "an action has too many choices.")
    starts = _flattened(start) if isinstance(start, list) else [0] * len(flat)
    _must(len(starts) == len(flat), "`start` must have a number for each of `nvec`.")
    for number in starts:
        _whole(number)
    room.take(sum(flat))
    try:
        nvec = np.array(sizes, np.int64)
        first = np.array(starts, np.int64).reshape(nvec.shape)
        return MultiDiscrete(nvec, start=first) if first.any() else MultiDiscrete(nvec)
    except (TypeError, ValueError, AssertionError, OverflowError) as problem:
        raise TeamError(f"there is no such MultiDiscrete: {problem!s:.100}") from None


def _flattened(numbers: Any, depth: int = 0) -> list[Any]:
    _must(depth < _DEEPEST, "a list is nested too deeply.")
    if not isinstance(numbers, list):
        return [numbers]
    return [n for part in numbers for n in _flattened(part, depth + 1)]


def _box(told: dict[str, Any], room: Room) -> Box:
    bounds = [told.get(name) for name in ("low", "high")]
    whole = "shape" in told
    for bound in bounds:
        numbers = [bound] if whole else _flattened(bound)
        good = whole or isinstance(bound, list)
        good = good and all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers)
        _must(good, "the bounds of a Box must be lists of numbers.")
        room.take(len(numbers))
    name = told.get("dtype")
    _must(name in _NUMBERS, f"the `dtype` of a Box must be one of {_NUMBERS}, got {name!r:.50}.")
    dtype = np.dtype(name)
    if whole:
        room.take(math.prod(_shape(told)))
    try:
        low, high = (np.asarray(bound, dtype) for bound in bounds)
        if whole:
            low, high = (np.broadcast_to(bound, told["shape"]).copy() for bound in (low, high))
        box: Any = Box
        return box(low, high, dtype=dtype)
    except (TypeError, ValueError, AssertionError, OverflowError) as problem:
        raise TeamError(f"there is no such Box: {problem!s:.100}") from None
