"""Where things in the plane lie from one another, for E environments at once."""

from __future__ import annotations

import numpy as np


def between(origins: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What lies between each origin and each target.

    Args:
        origins: (E, n, 2) positions.
        targets: (E, m, 2) positions.

    Returns:
        (E, n, m, 2) target - origin, and (E, n, m) its length.
    """
    offsets = targets[:, None, :, :] - origins[:, :, None, :]
    return offsets, np.sqrt(np.square(offsets).sum(-1))
