"""Standard Gumbel noise, by which a largest entry becomes a draw."""

from __future__ import annotations

import numpy as np

_TINY = np.finfo(np.float32).tiny


def gumbel_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard Gumbel noise: argmax(logits + noise) is a draw from softmax(logits).

    Args:
        rng: Source of randomness.
        shape: Shape [...].

    Returns:
        [...] float32, finite.
    """
    # -log(E), E standard exponential. The draw may be exactly 0, and inf - inf would be NaN.
    noise = rng.standard_exponential(shape, dtype=np.float32)
    np.maximum(noise, _TINY, out=noise)
    np.log(noise, out=noise)
    return np.negative(noise, out=noise)
