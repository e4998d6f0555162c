"""What a minibatch is made of: single rows, or chunks of rows that follow each other in time.

Everything in a learner is kept by flat rows. Only where a module with a memory is evaluated
must rows be laid out in time, and cut into chunks short enough to backpropagate through.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.core import Columns
from torch import Tensor

from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.learners.minibatch import Rows
from rllib_hetero.learners.on_policy.epochs import Share


class SingleRows:
    """Every row is a unit: for modules without a memory.

    Attributes:
        share: This learner's rows among all.
    """

    def __init__(self, num_rows: int) -> None:
        self.share = Share.of(num_rows)

    def take(self, data: Rows, index: Any) -> Rows:
        """The columns of `data` (B, ...) at these rows, (b, ...)."""
        return {name: column[index] for name, column in data.items()}

    def put_back(self, x: Tensor) -> Tensor:
        """From the layout of `take(data, slice(None))` to flat rows."""
        return x


class Chunks:
    """Stretches of at most L rows of one episode.

    Args:
        index: (N, L) row numbers, -1 where a chunk is shorter than L.

    Attributes:
        share: This learner's chunks among all.
    """

    def __init__(self, index: Tensor) -> None:
        self._index = index
        self.share = Share.of(len(index))

    def take(self, data: Rows, index: Any) -> Rows:
        """The columns of `data` (B, ...) by chunk and time, (k, L, ...).

        `STATE_IN` holds one entry per chunk already. What fills up a short chunk is not active.
        """
        rows = self._index[index]
        filled = rows >= 0
        rows = rows.clamp(min=0)
        taken = {
            name: column[index if name == Columns.STATE_IN else rows]
            for name, column in data.items()
        }
        per_agent = taken[ACTIVE].ndim > filled.ndim
        taken[ACTIVE] = taken[ACTIVE] * (filled[..., None] if per_agent else filled)
        return taken

    def put_back(self, x: Tensor) -> Tensor:
        """From (N, L, ...) to flat rows (B, ...)."""
        filled = self._index >= 0
        rows = x.new_empty(int(filled.sum()), *x.shape[2:])
        rows[self._index[filled]] = x[filled]
        return rows


Units = SingleRows | Chunks
