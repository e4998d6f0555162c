"""The true final observations of episodes that were cut, which no row holds."""

from __future__ import annotations

import numpy as np

from rllib_hetero.replay.packing import Packing
from rllib_hetero.replay.tables import Allocate, Table

ROOM = 16
"""Rows to begin with, and the least that are added."""


class FinalRows:
    """A table that grows with the number of cut episodes, and uses freed rows again.

    Args:
        allocate: Makes its memory.
        packing: Widths and dtypes of the tables; of these, "seen" and "flags" are kept.

    Attributes:
        seen: (K, width) observations and state.
        flags: (K, width) who is alive, and action masks.
    """

    def __init__(self, allocate: Allocate, packing: Packing) -> None:
        self._allocate = allocate
        self._packing = packing
        self._make(ROOM)
        self._free = np.arange(ROOM, dtype=np.int32)[::-1]

    def add(self, seen: np.ndarray, flags: np.ndarray) -> np.ndarray:
        """Keeps k rows; returns where, (k,) int32."""
        if len(self._free) < len(seen):
            self._grow(len(seen) - len(self._free))
        split = len(self._free) - len(seen)
        places, self._free = self._free[split:], self._free[:split]
        self.seen.array[places] = seen
        self.flags.array[places] = flags
        return places

    def free(self, places: np.ndarray) -> None:
        """Gives rows back."""
        self._free = np.concatenate([self._free, places])

    @property
    def nbytes(self) -> int:
        return self.seen.array.nbytes + self.flags.array.nbytes

    def _grow(self, least: int) -> None:
        seen, flags = self.seen.array, self.flags.array
        before = len(seen)
        after = before + max(least, before // 8, ROOM)
        self._make(after)
        self.seen.array[:before] = seen
        self.flags.array[:before] = flags
        # Taken from the end: the lowest first.
        self._free = np.concatenate([np.arange(before, after, dtype=np.int32)[::-1], self._free])

    def _make(self, rows: int) -> None:
        self.seen, self.flags = (
            Table(self._allocate, rows, self._packing.widths[name], self._packing.dtypes[name])
            for name in ("seen", "flags")
        )
