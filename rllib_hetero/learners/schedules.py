"""Settings that change over a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def scheduled(value: float | Sequence[Sequence[float]], env_steps: float) -> float:
    """What a setting is after so many environment steps.

    Args:
        value: A number, or points [[step, number], ...], linear in between and constant after the
            last, as RLlib's schedules are.
        env_steps: Steps sampled over the run.
    """
    if not isinstance(value, list | tuple):
        return value  # type: ignore[return-value]
    steps, values = zip(*value, strict=True)
    return float(np.interp(env_steps, steps, values))
