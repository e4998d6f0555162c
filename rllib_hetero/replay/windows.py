"""Where stretches of L steps begin in episodes, for agents that remember."""

from __future__ import annotations

import numpy as np

from rllib_hetero.replay.rings import Rings
from rllib_hetero.replay.tables import Allocate
from rllib_hetero.runners.fragment import TeamFragment


class Windows:
    """The rows that are step 0, L, 2 L, ... of their episode.

    An episode of which the start was lost with a fragment is counted from its first known row.

    Args:
        rings: Where the rows lie.
        length: L.
        allocate: Makes the memory.

    Attributes:
        begins: (N,) bool, whether a stretch begins in the row that lies there.

    Raises:
        ValueError: If L steps are more than a ring has rows.
    """

    def __init__(self, rings: Rings, length: int, allocate: Allocate) -> None:
        if not 0 < length <= rings.rows:
            raise ValueError(
                f"Sequences of {length} steps do not fit into a replay with {rings.rows} rows for "
                "each environment: lower `max_seq_len`, or raise the replay's capacity."
            )
        self.length = length
        self._rings = rings
        self.begins = allocate((rings.num_slots,), bool)
        self._step = np.zeros(len(rings.counts), np.int64)  # of each column's next row
        self._rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._indices())

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ring and number of the first rows, by their place in the order of all beginnings."""
        return self._rings.locate(self._indices()[indices])

    @property
    def nbytes(self) -> int:
        return self.begins.nbytes

    def add(
        self,
        fragment: TeamFragment,
        columns: slice,
        follows: np.ndarray,
        kept: np.ndarray,
        places: np.ndarray,
    ) -> None:
        """New rows: those `kept` of a fragment's, written to `places`.

        Args:
            fragment: T steps of E environments.
            columns: Their E columns.
            follows: (E,) whether the first row goes on with an episode that is known.
            kept: (T, E) which rows are written.
            places: Where.
        """
        over = fragment.terminated | fragment.truncated | ~fragment.valid
        begins = np.empty(over.shape, bool)
        step = np.where(follows, self._step[columns], 0)
        for t in range(len(over)):
            begins[t] = step % self.length == 0
            step = np.where(over[t], 0, step + 1)
        self._step[columns] = step
        self.begins[places] = begins[kept]
        self._rows = None

    def restore(self, places: np.ndarray, begins: np.ndarray) -> None:
        """Rows that were read from a checkpoint."""
        self.begins[places] = begins
        self._rows = None

    def clear(self, places: np.ndarray) -> None:
        """The rows that lie there are gone."""
        self.begins[places] = False
        self._rows = None

    def _indices(self) -> np.ndarray:
        if self._rows is None:
            self._rows = np.sort(self._rings.order(np.flatnonzero(self.begins)))
        return self._rows
