"""Which rows of several rings are in use, by their age and by their place in memory."""

from __future__ import annotations

import numpy as np


class Rings:
    """C rings of R rows each, side by side; row number k of a ring lies in its slot k mod S.

    There are S = R + 1 slots: behind the newest row lies its successor, which is not a row yet.
    Rows are numbered from 0 for ever. In the order of all rows, which `locate` takes, ring comes
    before ring, and within one the oldest row first: blocks of rings, put end to end, have the
    order that all rings have together.

    Attributes:
        rows: R.
        slots: S.
        written: (C,) how many rows each ring was ever given.
        counts: (C,) how many of them are left, at most R.
    """

    def __init__(self, num_rings: int, rows: int) -> None:
        self.rows = rows
        self.slots = rows + 1
        self.written = np.zeros(num_rings, np.int64)
        self.counts = np.zeros(num_rings, np.int64)
        self._count_rows()

    def __len__(self) -> int:
        return self._total

    @property
    def num_slots(self) -> int:
        """Of all rings together."""
        return len(self.written) * self.slots

    def push(self, rings: slice, count: np.ndarray) -> None:
        """So many more rows for each of these rings; the oldest make room."""
        self.restore(rings, self.written[rings] + count, self.counts[rings] + count)

    def restore(self, rings: slice, written: np.ndarray, counts: np.ndarray) -> None:
        """Sets the numbers of these rings."""
        self.written[rings] = written
        self.counts[rings] = np.minimum(counts, self.rows)
        self._count_rows()

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ring and number of rows, by their place in the order of all rows."""
        if self._equal:
            ring, age = np.divmod(indices, self._equal)
        else:
            ring = self._ends.searchsorted(indices, side="right")
            age = indices - (self._ends - self.counts)[ring]
        return ring, (self.written - self.counts)[ring] + age

    def order(self, place: np.ndarray) -> np.ndarray:
        """The inverse: place in the order of all rows, from place in memory."""
        ring, slot = np.divmod(place, self.slots)
        oldest = self.written - self.counts
        return (self._ends - self.counts)[ring] + (slot - oldest[ring]) % self.slots

    def newest(self, per_ring: int) -> np.ndarray:
        """Of the rows in the order of all rows, the newest of each ring, at most so many."""
        counts = np.minimum(self.counts, per_ring)
        return np.concatenate(
            [np.arange(end - n, end) for end, n in zip(self._ends, counts, strict=True)]
        )

    def place(self, ring: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Where in memory the row of this number lies, rings one behind the other."""
        return ring * self.slots + number % self.slots

    def walk(self, ring: np.ndarray, number: np.ndarray, steps: int) -> np.ndarray:
        """(B, steps): where these rows (B,) and those behind them lie; at most S steps."""
        slots = (number % self.slots)[:, None] + np.arange(steps)
        np.subtract(slots, self.slots, out=slots, where=slots >= self.slots)
        slots += (ring * self.slots)[:, None]
        return slots

    def stretches(self) -> list[slice]:
        """Where in memory all rows lie: one or two stretches of each ring."""
        found = []
        for ring, (written, count) in enumerate(zip(self.written, self.counts, strict=True)):
            first = int((written - count) % self.slots)
            inside = min(int(count), self.slots - first)
            base = ring * self.slots
            found += [slice(base + first, base + first + inside)]
            found += [slice(base, base + int(count) - inside)]
        return [s for s in found if s.stop > s.start]

    def _count_rows(self) -> None:
        self._ends = self.counts.cumsum()
        self._total = int(self._ends[-1])
        # Dividing is ten times as fast as searching, and rings are mostly filled alike.
        alike = (self.counts == self.counts[0]).all()
        self._equal = int(self.counts[0]) if alike else 0
