"""Gaussian policies squashed into their bounds, for the soft actor-critic family."""

from __future__ import annotations

import math
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.nn.functional import softplus

from rllib_hetero.functional.bounded import Bounded, finite_bounds
from rllib_hetero.functional.by_space import distribution_for, refuse_mixed
from rllib_hetero.functional.distributions import Density
from rllib_hetero.functional.stochastic import DiagGaussian

_LOG_2 = math.log(2.0)


@dataclass(frozen=True)
class SquashedGaussian(Bounded, Density):
    """Independent normals squashed by tanh into a Box of shape (k,).

        a = (low + high) / 2 + tanh(u) * (high - low) / 2,    u ~ N(mean, std^2)

    Inputs: k means of u, then k log standard deviations of u. The greedy action is that of the
    means. It is the median of each component, and not where the density is highest.

    Reference:
        Haarnoja et al., "Soft Actor-Critic", ICML 2018, Appendix C; for bounds of any place and
        width, with the term of the width.
    """

    @property
    def size(self) -> int:
        return 2 * self.dim

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        return self._squash(self._normal.sample(inputs, noise))

    def mode(self, inputs: Tensor) -> Tensor:
        return self._squash(self._normal.mode(inputs))

    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        _, _, middle, half = self._arrays
        return self._clip_array(middle + half * np.tanh(self._normal.act(inputs, noise)))

    def sample_with_log_prob(self, inputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and their log-densities, both differentiable in the inputs.

            log pi(a) = log N(u) - sum_j log(da_j / du_j)
            log(da / du) = log((high - low) / 2) + 2 (log 2 - u - softplus(-2 u))

        Exact at any u, however close to its bound the action is: nothing is inverted.

        Args:
            inputs: [..., 2 k] parameters.
            noise: [..., k] standard normals.

        Returns:
            Actions [..., k] and log pi(a) [...].

        Raises:
            ValueError: If the shapes do not fit.
        """
        u = self._normal.sample(inputs, noise)
        half = self._tensors(u)[3]
        log_slope = torch.log(half) + 2.0 * (_LOG_2 - u - softplus(-2.0 * u))
        return self._squash(u), self._normal.log_prob(inputs, u) - log_slope.sum(-1)

    def log_prob(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """Log pi(a) of given actions; see the base class.

        An action that is closer to a bound than half the range times its dtype's epsilon counts as
        one at that distance: rounding has brought it there, and the density stays finite.
        """
        self._check(inputs, actions=actions)
        low, high, _, half = self._tensors(actions)
        # u = atanh(y) and da/du = half (1 - y^2), from the distances to both bounds: y itself
        # would have lost the digits that tell actions near a bound apart.
        nearest = half * torch.finfo(actions.dtype).eps
        log_below = torch.log(torch.maximum(actions - low, nearest))
        log_above = torch.log(torch.maximum(high - actions, nearest))
        u = 0.5 * (log_below - log_above)
        log_slope = log_below + log_above - torch.log(half)
        return self._normal.log_prob(inputs, u) - log_slope.sum(-1)

    @property
    def _normal(self) -> DiagGaussian:
        return DiagGaussian(self.dim)

    def _squash(self, u: Tensor) -> Tensor:
        return self._clip(self.from_unit(torch.tanh(u)))  # Rounding may have passed a bound.


def squashed_for(space: gym.Space) -> Density:
    """The family "squashed".

    Args:
        space: Box of shape (k,) with finite bounds, Discrete or MultiDiscrete.

    Returns:
        `SquashedGaussian` for a Box, else `Categorical` or `MultiCategorical`.

    Raises:
        ValueError: If the space is of another kind, a Box without finite bounds, or of
            choices and numbers.
    """
    if isinstance(space, Box):
        return SquashedGaussian(*finite_bounds(space))
    return refuse_mixed(distribution_for(space))
