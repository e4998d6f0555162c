"""The parts that an observation is made of: one for each space without parts of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

Path = tuple[str | int, ...]
"""Keys of Dicts and places in Tuples, from the whole observation down to a part."""


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a row: a picture, a vector of numbers, or one-hots.

    Attributes:
        path: Where it is in the observation; () if the observation is one part.
        space: Its space.
        shape: What a network is given of it: of a picture (..., height, width, channels), else
            (k,).
        dtype: Of its numbers: float32 or uint8.
        start: Its first entry in the row. In a row of bytes a float32 takes four entries.
        stop: The entry behind its last.
        picture: Whether it is one.
    """

    path: Path
    space: gym.Space
    shape: tuple[int, ...]
    dtype: np.dtype
    picture: bool = False
    start: int = 0
    stop: int = 0

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.size * self.dtype.itemsize

    @property
    def scale(self) -> float:
        """What networks divide it by: the upper bound of a picture of bytes, else 1."""
        if not (self.picture and self.dtype == np.uint8):
            return 1.0
        return float(max(1, self.space.high.max()))  # type: ignore[attr-defined]

    @property
    def name(self) -> str:
        """The path in words."""
        return ".".join(map(str, self.path)) or "observation"

    def at(self, start: int, entry_bytes: int) -> Part:
        """The same part, from this entry on, in rows of entries of so many bytes."""
        entries = self.size if entry_bytes > 1 else self.nbytes
        return replace(self, start=start, stop=start + entries)

    # ---- one observation in, one out -----------------------------------------------------------

    def encode(self, x: Any) -> np.ndarray:
        """Its numbers (size,), of its dtype.

        Raises:
            ValueError: If `x` is not of its space, in words.
        """
        space = self.space
        try:
            array = np.asarray(x)
            if isinstance(space, Discrete):
                return self._one_hots(array, np.array(space.n), space.start)
            if isinstance(space, MultiDiscrete):
                return self._one_hots(array, space.nvec, space.start)
            if array.shape != space.shape:
                raise ValueError(f"it has shape {array.shape}; its space says {space.shape}")
            if self.dtype == np.uint8 and array.dtype != np.uint8 and array.size:
                whole = array.dtype.kind in "iub"
                if not whole or array.min() < 0 or array.max() > 255:
                    raise ValueError(f"it is {array.dtype}; its space says {space.dtype}")
            return array.astype(self.dtype, copy=False).reshape(-1)
        except (TypeError, ValueError) as problem:
            raise ValueError(f"{self.name}: {problem}") from None

    def _one_hots(self, choices: np.ndarray, nvec: np.ndarray, start: Any) -> np.ndarray:
        if choices.shape != nvec.shape or choices.dtype.kind not in "iub":
            raise ValueError(f"{choices.tolist()!r:.80} is not in {self.space}")
        index = (choices - start).reshape(-1)
        sizes = nvec.reshape(-1)
        if ((index < 0) | (index >= sizes)).any():
            raise ValueError(f"{choices.tolist()!r:.80} is not in {self.space}")
        row = np.zeros(self.size, self.dtype)
        row[np.cumsum(sizes) - sizes + index] = 1
        return row

    def decode(self, numbers: np.ndarray) -> Any:
        """What `encode` made these numbers (size,) of; of all zeros, the first choice."""
        space = self.space
        if isinstance(space, Discrete):
            return np.int64(int(numbers.argmax()) + int(space.start))
        if isinstance(space, MultiDiscrete):
            ends = np.cumsum(space.nvec.reshape(-1))[:-1]
            choices = np.array([one.argmax() for one in np.split(numbers, ends)])
            return (choices.reshape(space.nvec.shape) + space.start).astype(space.dtype)
        return numbers.astype(space.dtype).reshape(space.shape)  # type: ignore[arg-type]


def parts_of(space: gym.Space, path: Path = ()) -> Iterator[Part]:
    """The parts of a space, in the order of Dicts and Tuples.

    Raises:
        ValueError: If a part is of a kind that is not supported, in words.
    """
    if isinstance(space, Dict):
        for key, inner in space.spaces.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} of a Dict is no text")
            yield from parts_of(inner, (*path, key))
    elif isinstance(space, Tuple):
        for i, inner in enumerate(space.spaces):
            yield from parts_of(inner, (*path, i))
    else:
        yield _part(space, path)


def _part(space: gym.Space, path: Path) -> Part:
    number, byte = np.dtype(np.float32), np.dtype(np.uint8)
    if isinstance(space, Box):
        rank, bytes_ = len(space.shape), space.dtype == np.uint8
        picture = rank >= 3 or (rank == 2 and bytes_)
        shape = space.shape if picture else (math.prod(space.shape),)
        return Part(path, space, shape, byte if bytes_ else number, picture)
    if isinstance(space, Discrete):
        return Part(path, space, (int(space.n),), byte)
    if isinstance(space, MultiDiscrete):
        return Part(path, space, (int(space.nvec.sum()),), byte)
    if isinstance(space, MultiBinary):
        return Part(path, space, (math.prod(space.shape),), byte)
    raise ValueError(
        f"{'.'.join(map(str, path)) + ': ' if path else ''}{type(space).__name__} is not among "
        "the kinds that can be read: Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple "
        "of these"
    )
