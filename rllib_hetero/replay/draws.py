"""Which rows are drawn: pure functions of a seed, alike on all learners."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def uniform(seed: Sequence[int], total: int, batch_size: int) -> np.ndarray:
    """Indices drawn uniformly with replacement.

    Args:
        seed: Of this draw, say (seed, iteration, number of the update).
        total: How many rows there are, over all learners.
        batch_size: B.

    Returns:
        (B,) int64 in [0, total).

    Raises:
        ValueError: If there is nothing to draw from.
    """
    if total < 1:
        raise ValueError("The replay is empty: sample before the first update.")
    return np.random.default_rng(seed).integers(total, size=batch_size)


def own(indices: np.ndarray, totals: Sequence[int], learner: int) -> np.ndarray:
    """A learner's share of global indices, in its own count.

    Each learner's replay holds a block of the columns; put end to end, these have the order of
    all rows.

    Args:
        indices: (B,) global indices, in [0, sum of totals).
        totals: How many rows each learner has.
        learner: Which one is asked for.

    Returns:
        (b,) its indices in [0, totals[learner]); b may be 0.
    """
    first = sum(totals[:learner])
    mine = indices[(indices >= first) & (indices < first + totals[learner])]
    return mine - first
