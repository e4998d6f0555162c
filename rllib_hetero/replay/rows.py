"""The memory of the replay: packed rows, how their steps ended, and true final observations."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from rllib_hetero.replay.finals import FinalRows
from rllib_hetero.replay.packing import Packing
from rllib_hetero.replay.tables import Allocate, Table

GOES_ON, TERMINATED = -1, -2
"""How a row's step ended; another number is where the true final observation is kept."""


class Rows:
    """N places for packed rows, and one more, `nothing`, for what is not there.

    Args:
        packing: Names and widths of the tables.
        num_places: N.
        allocate: Makes the memory.

    Attributes:
        tables: Name to the table: "seen", "flags", "acted", "rewards".
        ends: (N,) int32 how the steps ended; `GOES_ON` where there is no row.
        nothing: The place of zeros, where nobody is alive and everything is allowed.
    """

    def __init__(self, packing: Packing, num_places: int, allocate: Allocate) -> None:
        self.tables = {
            name: Table(allocate, num_places + 1, width, packing.dtypes[name])
            for name, width in packing.widths.items()
        }
        self.ends = allocate((num_places,), np.int32)
        self.ends[:] = GOES_ON
        self.nothing = num_places
        self.tables["flags"].array[self.nothing] = packing.nobody()
        self._finals = FinalRows(allocate, packing)

    @property
    def nbytes(self) -> int:
        return (
            sum(t.array.nbytes for t in self.tables.values())
            + self.ends.nbytes
            + self._finals.nbytes
        )

    def write(self, places: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Writes to k free places: table to (k, width), "ends" (k,), and "final_..." of the cut.

        Ends of 0 and more stand for `cut`; the final observations come in the rows' order.
        """
        for name, table in self.tables.items():
            table.array[places] = rows[name]
        ends = rows["ends"].astype(np.int32)
        ends[ends >= 0] = self._finals.add(rows["final_seen"], rows["final_flags"])
        self.ends[places] = ends

    def read(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """What `write` takes."""
        rows = {name: table.array[places] for name, table in self.tables.items()}
        ends = self.ends[places]
        finals = ends[ends >= 0]
        rows["ends"] = np.minimum(ends, 0)
        rows["final_seen"] = self._finals.seen.array[finals]
        rows["final_flags"] = self._finals.flags.array[finals]
        return rows

    def clear(self, places: np.ndarray) -> None:
        """Forgets the rows that lie there."""
        ends = self.ends[places]
        self._finals.free(ends[ends >= 0])
        self.ends[places] = GOES_ON

    def cut(self, places: np.ndarray, after: np.ndarray) -> None:
        """Ends the episodes of rows that go on, with what lies at `after` as final observation."""
        going = self.ends[places] == GOES_ON
        seen, flags = (self.tables[name].array[after[going]] for name in ("seen", "flags"))
        self.ends[places[going]] = self._finals.add(seen, flags)

    def look(self, places: np.ndarray, ends: np.ndarray) -> tuple[Tensor, Tensor]:
        """What is seen (..., width) and the flags there, or in true final observations.

        Args:
            places: Where the rows lie.
            ends: Where not negative, which final observation is asked for instead.
        """
        seen, flags = self.tables["seen"].take(places), self.tables["flags"].take(places)
        cut = np.nonzero(ends >= 0)
        # Through numpy, which writes to rows in half the time.
        seen.numpy()[cut] = self._finals.seen.array.take(ends[cut], axis=0)
        flags.numpy()[cut] = self._finals.flags.array.take(ends[cut], axis=0)
        return seen, flags
