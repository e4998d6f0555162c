"""What is done to actions on their way to the environment."""

import numpy as np
import pytest
from gymnasium.spaces import Box

from rllib_hetero.runners.actions import action_transform


def boxes(dtype, count=200, size=3):
    """Random bounds, from narrow to wide, and the widest that there are."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        middle, half = rng.normal(size=(2, size)) * 10.0 ** rng.integers(-3, 4, (2, size))
        low, high = (middle - np.abs(half)).astype(dtype), (middle + np.abs(half)).astype(dtype)
        yield Box(low, high, dtype=dtype)
    most = np.finfo(dtype).max
    yield Box(-most, most, (size,), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("normalize", [True, False])
def test_actions_are_within_the_space(normalize, dtype):
    rng = np.random.default_rng(1)
    for space in boxes(dtype):
        transform = action_transform(space, normalize=normalize, clip=True)
        for x in (-1.0, 1.0, *rng.normal(size=5)):
            action = transform(np.full(3, x, np.float32))
            assert space.contains(action), (space, x, action)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalized_actions_are_scaled_to_the_bounds(dtype):
    for space in boxes(dtype, count=20):
        transform = action_transform(space, normalize=True, clip=False)
        low, high = space.low.astype(np.longdouble), space.high.astype(np.longdouble)
        for x in (-1.0, -0.7, 0.0, 0.25, 1.0, 3.0):
            share = (min(np.float32(x), 1.0) + np.longdouble(1.0)) / 2
            expected = low + share * (high - low)
            # Four roundings, of numbers that are no larger than twice the bounds.
            size = np.maximum(np.abs(low), np.abs(high))
            error = np.abs(transform(np.full(3, x, np.float32)) - expected)
            assert (error <= 8 * np.finfo(np.float32).eps * size).all()
