"""Epsilon-greedy policies over action values, for the Q-learning family."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from rllib_hetero.functional.distributions import Distribution
from rllib_hetero.functional.gumbel import gumbel_noise


@dataclass(frozen=True)
class EpsilonGreedy(Distribution):
    """The choice of the highest value; with probability epsilon, any allowed one.

    Inputs: n action values, then epsilon. Choices are forbidden as in `mask_logits`: their values
    are the lowest finite number. Noise: a uniform number, which says whether to explore, then n
    standard Gumbel numbers, of which the largest allowed one says where.

    Attributes:
        n: Number of actions.
    """

    n: int

    @property
    def size(self) -> int:
        return self.n + 1

    @property
    def noise_size(self) -> int:
        return self.n + 1

    @property
    def choices(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def action_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def action_dtype(self) -> np.dtype:
        return np.dtype(np.int64)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        self._check_noise(inputs, noise)
        values, epsilon = inputs[..., :-1], inputs[..., -1:]
        allowed = values > torch.finfo(values.dtype).min
        at_random = torch.where(allowed, noise[..., 1:], -torch.inf)
        return torch.where(noise[..., :1] < epsilon, at_random, values).argmax(-1)

    def mode(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        return inputs[..., :-1].argmax(-1)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        noise = np.empty((*shape, self.noise_size), np.float32)
        noise[..., 0] = rng.random(shape, dtype=np.float32)
        noise[..., 1:] = gumbel_noise(rng, (*shape, self.n))
        return noise

    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        self._check_array(inputs)
        values, epsilon = inputs[..., :-1], inputs[..., -1:]
        if noise is None:
            return np.asarray(values.argmax(-1))
        at_random = np.where(values > np.finfo(values.dtype).min, noise[..., 1:], -np.inf)
        return np.asarray(np.where(noise[..., :1] < epsilon, at_random, values).argmax(-1))


def greedy_for(space: gym.Space) -> Distribution:
    """The family "greedy".

    Args:
        space: Discrete, starting at 0.

    Returns:
        `EpsilonGreedy`.

    Raises:
        ValueError: If the space is of another kind.
    """
    if isinstance(space, Discrete) and space.start == 0:
        return EpsilonGreedy(int(space.n))
    raise ValueError(
        f"{space} has no values of single choices: a Discrete (starting at 0) is needed."
    )
