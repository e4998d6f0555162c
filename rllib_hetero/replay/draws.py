"""Which rows are drawn: pure functions of a seed, alike on all learners."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EMPTY = "The replay is empty: sample before the first update."


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
        raise ValueError(EMPTY)
    return np.random.default_rng(seed).integers(total, size=batch_size)


def stratified(seed: Sequence[int], total: float, batch_size: int) -> np.ndarray:
    """Sums of priorities to be found, one from each of B equal parts of their total.

    Schaul et al., Prioritized Experience Replay, ICLR 2016, 3.3.

    Args:
        seed: Of this draw.
        total: Sum of the priorities of all rows of all learners.
        batch_size: B.

    Returns:
        (B,) float64 in [0, total), ascending.

    Raises:
        ValueError: If there is nothing to draw from.
    """
    if not total > 0:
        raise ValueError(EMPTY)
    parts = np.arange(batch_size) + np.random.default_rng(seed).random(batch_size)
    return np.minimum(parts * (total / batch_size), np.nextafter(total, 0.0))
