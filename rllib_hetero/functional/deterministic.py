"""Deterministic policies for the family of DDPG and TD3, and the noise they explore with."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from torch import Tensor

from rllib_hetero.functional.bounded import Bounded, finite_bounds
from rllib_hetero.functional.by_space import distribution_for, refuse_mixed
from rllib_hetero.functional.distributions import Distribution


@dataclass(frozen=True)
class NoisyDeterministic(Bounded):
    """A deterministic action with Gaussian noise on it, clipped to a Box of shape (k,).

        a = clip(mean + scale * (high - low) / 2 * noise, low, high)

    Inputs: k means, in action units, then the scale of the noise: its standard deviation in
    units of half the range, 0 for none. Without noise the action is the mean.

    There is no density: clipped actions heap up on the bounds.

    Reference:
        HARL, Algorithms 6 and 7, line "a = mu(o) + eps"; units as in the authors' code.
    """

    @property
    def size(self) -> int:
        return self.dim + 1

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        self._check_noise(inputs, noise)
        return self.perturb(inputs[..., :-1], inputs[..., -1:] * noise)

    def mode(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        return self._clip(inputs[..., :-1])

    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        self._check_array(inputs)
        mean = inputs[..., :-1]
        if noise is None:
            return self._clip_array(mean)
        half = self._arrays[3]
        return self._clip_array(mean + inputs[..., -1:] * noise * half)

    def perturb(self, actions: Tensor, noise: Tensor) -> Tensor:
        """Moves actions by noise in units of half the range, and back into the bounds.

        With clipped Gaussian noise this is TD3's smoothing of the target policy (HARL, Algorithm
        7, the line of the target's actions).

        Args:
            actions: [..., k] in action units.
            noise: [..., k] in units of half the range.

        Returns:
            [..., k] actions within the bounds.
        """
        half = self._tensors(actions)[3]
        return self._clip(actions + half * noise)


def deterministic_for(space: gym.Space) -> Distribution:
    """The family "deterministic".

    Args:
        space: Box of shape (k,) with finite bounds, Discrete or MultiDiscrete.

    Returns:
        `NoisyDeterministic` for a Box. For choices, the distribution of which a hard Gumbel-softmax
        action is a draw: `Categorical` or `MultiCategorical`. A hard action has no gradient; the
        straight-through estimator gives it one.

    Raises:
        ValueError: If the space is of another kind, a Box without finite bounds, or of
            choices and numbers.
    """
    if isinstance(space, Box):
        return NoisyDeterministic(*finite_bounds(space))
    return refuse_mixed(distribution_for(space))
