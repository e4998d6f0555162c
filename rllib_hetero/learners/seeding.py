"""From what something is drawn for to a seed of PyTorch."""

from __future__ import annotations

import numpy as np


def as_seed(entropy: tuple[int, ...]) -> int:
    """One number below 2^63 of several, such as (seed, number of the update, what it is for)."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
