"""Observations and states as rows of numbers: what lies where, how it gets in and comes out.

A row is float32. Where a part is a picture of bytes, the row is uint8 throughout, and each float32
beside the picture is its four bytes: fragments, replay and transport then hold what the environment
gave, and networks turn it into numbers on their device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Tuple
from torch import Tensor

from rllib_hetero.spaces.parts import Part, Path, parts_of

Array = TypeVar("Array", np.ndarray, Tensor)
_BYTE, _NUMBER = np.dtype(np.uint8), np.dtype(np.float32)


class Rows(Box):
    """A Box of shape (d,): the rows that observations of another kind are kept as.

    Attributes:
        of: The space of the observations; None of rows that are put together from others.
        parts: What lies in a row, from its start to its end.
    """

    def __init__(self, parts: Iterable[Part], of: gym.Space | None = None) -> None:
        parts = tuple(parts)
        if not parts:
            raise ValueError("it has no parts")
        dtype = _BYTE if any(p.picture and p.dtype == _BYTE for p in parts) else _NUMBER
        placed, end = [], 0
        for part in parts:
            if dtype == _NUMBER:
                part = _as_numbers(part)
            placed.append(part.at(end, dtype.itemsize))
            end = placed[-1].stop
        self.of, self.parts = of, tuple(placed)
        if dtype == _BYTE:
            super().__init__(0, 255, (end,), np.uint8)
        else:
            low, high = zip(*map(_bounds, placed), strict=True)
            super().__init__(np.concatenate(low), np.concatenate(high), dtype=np.float32)

    def __eq__(self, other: Any) -> bool:
        """Whether the rows hold the same parts in the same places, of the same observations."""
        if not isinstance(other, Rows) or signature(self) != signature(other):
            return False
        if self.of is not None and other.of is not None:
            return bool(self.of == other.of)
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = ", ".join(f"{p.name}: {p.shape} {p.dtype}" for p in self.parts)
        return f"Rows({self.shape[0]} x {self.dtype}; {parts})"


def row_space(space: gym.Space) -> Box:
    """The space of the rows that observations of a space are kept as.

    Args:
        space: Box of any shape and dtype, Discrete, MultiDiscrete, MultiBinary, or Dicts and
            Tuples of these.

    Returns:
        The space itself if it is a Box of shape (d,), whose rows are float32 whatever its dtype;
        else a `Rows`.

    Raises:
        ValueError: If a part is of another kind, in words.
    """
    if isinstance(space, Rows) or (isinstance(space, Box) and len(space.shape) == 1):
        return space
    return Rows(parts_of(space), of=space)


def row_dtype(space: Box) -> np.dtype:
    """The dtype of rows: uint8 of those of bytes, else float32."""
    return _BYTE if isinstance(space, Rows) and space.dtype == _BYTE else _NUMBER


def has_pictures(space: Box) -> bool:
    """Whether rows hold a picture."""
    return isinstance(space, Rows) and any(p.picture for p in space.parts)


def signature(space: Box) -> tuple[Any, ...]:
    """What a network must know of rows: equal for spaces that differ in bounds alone."""
    if not isinstance(space, Rows):
        return space.shape
    return tuple((p.path, p.shape, str(p.dtype), p.start, p.picture, p.scale) for p in space.parts)


def appended(space: Box, name: str, low: np.ndarray, high: np.ndarray) -> Box:
    """Rows with more numbers behind them.

    Args:
        space: The rows' space.
        name: What the numbers are called.
        low: (k,) their lower bounds.
        high: (k,) their upper bounds.
    """
    if not isinstance(space, Rows):
        return Box(
            low=np.concatenate([space.low, low]).astype(np.float32),
            high=np.concatenate([space.high, high]).astype(np.float32),
            dtype=np.float32,
        )
    more = Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
    part = Part((name,), more, more.shape, row_dtype(space))
    return Rows([*space.parts, part], of=space.of)


def joint_rows(spaces: Sequence[Box]) -> Box:
    """The space of several rows side by side. If one is of bytes, the whole is.

    Parts keep their paths: equal paths and shapes are of the same kind of observation. A plain Box
    where nobody's row has several, nor a picture.
    """
    if not any(len(s.parts) > 1 or has_pictures(s) for s in spaces if isinstance(s, Rows)):
        return Box(
            low=np.concatenate([s.low for s in spaces]).astype(np.float32),
            high=np.concatenate([s.high for s in spaces]).astype(np.float32),
            dtype=np.float32,
        )
    parts: list[Part] = []
    for s in spaces:
        plain = Part((), s, s.shape, _NUMBER)
        parts += s.parts if isinstance(s, Rows) else [plain]
    return Rows(parts)


def _as_numbers(part: Part) -> Part:
    if part.dtype == _NUMBER:
        return part
    return Part(part.path, part.space, part.shape, _NUMBER, part.picture)


def _bounds(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """(size,) lower and upper bounds of a part of float32."""
    if isinstance(part.space, Box):
        with np.errstate(over="ignore"):
            low, high = part.space.low, part.space.high
            return low.astype(np.float32).reshape(-1), high.astype(np.float32).reshape(-1)
    return np.zeros(part.size, np.float32), np.ones(part.size, np.float32)


# ---- observations in, observations out ----------------------------------------------------------


def encoded(space: Rows, observation: Any) -> np.ndarray:
    """The row (d,) of an observation.

    Raises:
        ValueError: If the observation is not of the space, in words.
    """
    if len(space.parts) == 1 and not space.parts[0].path:
        return space.parts[0].encode(observation)
    dtype = row_dtype(space)
    row = np.empty(space.shape, dtype)
    for part in space.parts:
        numbers = part.encode(_follow(observation, part.path))
        row[part.start : part.stop] = as_dtype(numbers, dtype)
    return row


def decoded(space: Box, row: np.ndarray) -> Any:
    """The observation that a row (d,) was made of."""
    if not isinstance(space, Rows):
        return row
    assert space.of is not None
    return _nested(
        space.of,
        {p.path: p.decode(as_dtype(row[p.start : p.stop], p.dtype)) for p in space.parts},
    )


def unpack(rows: Tensor, space: Box) -> Any:
    """Rows as a network wants them: what was observed, in float32.

    Args:
        rows: (..., d), as modules are given them.
        space: Their space, `module.observation_space`.

    Returns:
        The rows themselves if they are plain vectors. Else tensors with the same leading axes, in
        Dicts and tuples as the environment has them: pictures (..., *shape), those of bytes divided
        by their upper bound (255); vectors (..., k); one-hots of choices (..., n). What follows the
        observation (an agent's index) is left out: it is `rows[..., -n:]`.
    """
    if not isinstance(space, Rows):
        return rows
    assert space.of is not None
    return _nested(space.of, {p.path: take(rows, p) for p in space.parts})


def take(rows: Tensor, part: Part) -> Tensor:
    """A part (..., *shape) of rows (..., d), in float32 and scaled."""
    x = rows[..., part.start : part.stop]
    if x.dtype == torch.uint8 and part.dtype == _NUMBER:
        x = as_dtype(x, _NUMBER)
    x = x.to(torch.float32)
    if part.scale != 1.0:
        x = x / part.scale
    return x.unflatten(-1, part.shape)


def numbers_in(rows: np.ndarray, space: Box) -> np.ndarray:
    """What may be NaN in rows (..., d): float32 (..., k), where k may be 0."""
    if rows.dtype == _NUMBER:
        return rows
    assert isinstance(space, Rows)
    none = np.zeros((*rows.shape[:-1], 0), np.float32)
    wanted = [p for p in space.parts if p.dtype == _NUMBER]
    found = [as_dtype(rows[..., p.start : p.stop], _NUMBER) for p in wanted]
    return np.concatenate([none, *found], -1)


def as_dtype(rows: Array, dtype: np.dtype) -> Array:
    """Rows of float32 as those of their bytes, and back: the same memory wherever it can be.

    Args:
        rows: (..., d) float32 or uint8.
        dtype: The one that is wanted.
    """
    if isinstance(rows, Tensor):
        if (rows.dtype == torch.uint8) == (dtype == _BYTE):
            return rows
        if dtype == _BYTE:
            return rows.contiguous().view(torch.uint8)
        # A copy: a part of a row seldom lies where a float32 may.
        return rows.clone(memory_format=torch.contiguous_format).view(torch.float32)
    return rows if rows.dtype == dtype else np.ascontiguousarray(rows).view(dtype)


def _follow(observation: Any, path: Path) -> Any:
    for i, key in enumerate(path):
        try:
            observation = observation[key]
        except (KeyError, IndexError, TypeError):
            where = ".".join(map(str, path[: i + 1]))
            raise ValueError(f"{where} is missing") from None
    return observation


def _nested(space: gym.Space, leaves: dict[Path, Any], path: Path = ()) -> Any:
    if isinstance(space, Dict):
        return {k: _nested(s, leaves, (*path, k)) for k, s in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_nested(s, leaves, (*path, i)) for i, s in enumerate(space.spaces))
    return leaves[path]
