"""What families over a Box with finite bounds share: every action lies inside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rllib_hetero.functional.distributions import Distribution


@dataclass(frozen=True)
class Bounded(Distribution):
    """A distribution over a Box of shape (k,) with finite bounds.

    Attributes:
        low: The k lower bounds.
        high: The k upper bounds, above the lower ones.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def dim(self) -> int:
        """k, the number of action components."""
        return len(self.low)

    @property
    def noise_size(self) -> int:
        return self.dim

    @property
    def choices(self) -> tuple[int, ...]:
        return ()

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def action_dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal((*shape, self.dim), dtype=np.float32)

    def from_unit(self, x: Tensor) -> Tensor:
        """Maps [-1, 1] linearly onto the bounds: (low + high) / 2 + x (high - low) / 2.

        Args:
            x: [..., k].

        Returns:
            [..., k] in action units. It may pass a bound by a rounding error.
        """
        _, _, middle, half = self._tensors(x)
        return middle + half * x

    def _clip(self, actions: Tensor) -> Tensor:
        low, high, _, _ = self._tensors(actions)
        return actions.clamp(low, high)

    def _clip_array(self, actions: np.ndarray) -> np.ndarray:
        low, high, _, _ = self._arrays
        clipped = np.maximum(actions, low)  # A new array, whatever was given.
        return np.minimum(clipped, high, out=clipped)

    @cached_property
    def _arrays(self) -> list[np.ndarray]:
        """The bounds, their middle and half of their distance, (k,) float32 each."""
        return [x.astype(np.float32) for x in self._numbers()]

    def _tensors(self, like: Tensor) -> list[Tensor]:
        """The same in a tensor's dtype, where it is."""
        return _made_once(self, like.dtype, like.device)

    def _numbers(self) -> list[np.ndarray]:
        low, high = np.asarray(self.low), np.asarray(self.high)
        return [low, high, (low + high) / 2, (high - low) / 2]


@lru_cache(maxsize=256)
def _made_once(dist: Bounded, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    with torch.inference_mode(False):  # Made in that mode, no later gradient could pass them.
        return [torch.as_tensor(x, dtype=dtype, device=device) for x in dist._numbers()]


def finite_bounds(space: gym.Space) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The bounds of a Box, as float32 numbers inside it.

    Args:
        space: An action space.

    Returns:
        Lower and upper bounds, k each.

    Raises:
        ValueError: If the space is not a float Box of shape (k,), or a bound is infinite, or the
            range is empty (or, in float32, either of these).
    """
    if not (isinstance(space, Box) and len(space.shape) == 1):
        raise ValueError(f"A Box of shape (k,) is needed, got {space}.")
    low, high = _inner(space.low, np.inf), _inner(space.high, -np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    if not np.isfinite(width).all():
        raise ValueError(
            f"{space} has no finite bounds, and tanh needs bounds to map to. Wrap the environment "
            "so that it declares a finite Box and scales its actions."
        )
    if not (width > 0).all():
        raise ValueError(
            f"{space} has a component without room between its bounds. Wrap the environment so "
            "that it leaves this component out."
        )
    return tuple(low.tolist()), tuple(high.tolist())


def _inner(bound: np.ndarray, towards: float) -> np.ndarray:
    """The bound in float32; where that would pass it, the next number inside."""
    with np.errstate(over="ignore"):
        rounded = bound.astype(np.float32)
    outside = rounded < bound if towards > 0 else rounded > bound
    return np.where(outside, np.nextafter(rounded, np.float32(towards)), rounded)
