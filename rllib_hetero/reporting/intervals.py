"""Interquartile means over seeds and their bootstrap intervals, by rliable.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS
2021): with few seeds, the mean of the middle half says more than the mean, and an interval more
than either.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from rllib_hetero.errors import MissingExtraError

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """Interquartile means (T,), and the lower and upper ends (T,) of their intervals."""

    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interquartile_means(scores: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Interquartile means with percentile bootstrap intervals at 95 %.

    Args:
        scores: (seeds, T) one row for each seed.
        resamples: How often the seeds are drawn anew, with replacement.
        seed: Of these draws.

    Returns:
        Of each of the T columns. With a single seed the ends are NaN: one run says nothing about
        the next.

    Raises:
        MissingExtraError: If rliable is not installed.
    """
    library, stats = _rliable()

    def iqm(tasks: np.ndarray) -> np.ndarray:
        """(T,) from (seeds, 1, T): one task at a time, as returns of tasks do not compare.

        As rliable's `aggregate_iqm` of each of them, all at once.
        """
        return stats.trim_mean(tasks[:, 0], proportiontocut=0.25, axis=0)

    cube = scores[:, None, :]
    if len(scores) == 1:
        unknown = np.full(scores.shape[1], np.nan)
        return Estimate(iqm(cube), unknown, unknown)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # how rliable hands its random state on
        points, intervals = library.get_interval_estimates(
            {"": cube},
            iqm,
            reps=resamples,
            confidence_interval_size=CONFIDENCE,
            random_state=np.random.RandomState(seed),
        )
    low, high = intervals[""]
    return Estimate(points[""], low, high)


def _rliable() -> tuple[Any, Any]:
    try:
        from rliable import library
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("rliable", extra="report") from error
    return library, stats
