"""The stochastic policies of the on-policy algorithms: of numbers, and of choices.

Inputs are RLlib's flat `action_dist_inputs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from rllib_hetero.functional.distributions import ClosedForm
from rllib_hetero.functional.gumbel import gumbel_noise

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class DiagGaussian(ClosedForm):
    """Independent normals for a Box of shape (k,). Inputs: k means, then k log std deviations.

    Actions are not squashed and not clipped: what is stored is what was drawn, so that
    log-probabilities are exact. Clipping to the bounds belongs to the environment's side.

    Attributes:
        dim: k, the number of action components.
    """

    within_space: ClassVar[bool] = False

    dim: int

    @property
    def size(self) -> int:
        return 2 * self.dim

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

    def log_prob(self, inputs: Tensor, actions: Tensor) -> Tensor:
        self._check(inputs, actions=actions)
        mean, log_std = inputs.chunk(2, dim=-1)
        z = (actions - mean) * torch.exp(-log_std)
        return -(0.5 * z * z + log_std + _HALF_LOG_2PI).sum(-1)

    def entropy(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        return (inputs[..., self.dim :] + 0.5 + _HALF_LOG_2PI).sum(-1)

    def kl(self, inputs_old: Tensor, inputs_new: Tensor) -> Tensor:
        self._check(inputs_old, inputs_new)
        mean_old, log_std_old = inputs_old.chunk(2, dim=-1)
        mean_new, log_std_new = inputs_new.chunk(2, dim=-1)
        # With v = log(var_old / var_new): (exp(v) - 1 - v + z^2) / 2. `expm1` keeps the digits
        # of the small steps that a trust region compares with its threshold.
        v = 2.0 * (log_std_old - log_std_new)
        z = (mean_old - mean_new) * torch.exp(-log_std_new)
        return 0.5 * (torch.expm1(v) - v + z * z).sum(-1)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        self._check_noise(inputs, noise)
        mean, log_std = inputs.chunk(2, dim=-1)
        return mean + log_std.exp() * noise

    def mode(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        return inputs[..., : self.dim]

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal((*shape, self.dim), dtype=np.float32)

    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        self._check_array(inputs)
        actions = np.zeros_like(inputs[..., self.dim :]) if noise is None else noise
        actions = np.exp(inputs[..., self.dim :]) * actions + inputs[..., : self.dim]
        return actions.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Categorical(ClosedForm):
    """One choice of n for a Discrete(n). Inputs: n logits, of any offset.

    A logit of -inf (or of the dtype's lowest value) takes an action out: its probability is 0
    and entropy, KL and their gradients stay finite.

    Attributes:
        n: Number of actions.
    """

    n: int

    @property
    def size(self) -> int:
        return self.n

    @property
    def noise_size(self) -> int:
        return self.n

    @property
    def choices(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def action_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def action_dtype(self) -> np.dtype:
        return np.dtype(np.int64)

    def log_prob(self, inputs: Tensor, actions: Tensor) -> Tensor:
        self._check(inputs, actions=actions)
        return _log_softmax(inputs).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        log_p = _log_softmax(inputs)
        return -(log_p.exp() * log_p).sum(-1)

    def kl(self, inputs_old: Tensor, inputs_new: Tensor) -> Tensor:
        self._check(inputs_old, inputs_new)
        log_p_old, log_p_new = _log_softmax(inputs_old), _log_softmax(inputs_new)
        return (log_p_old.exp() * (log_p_old - log_p_new)).sum(-1)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        self._check_noise(inputs, noise)
        return (inputs + noise).argmax(-1)

    def mode(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        return inputs.argmax(-1)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return gumbel_noise(rng, (*shape, self.n))

    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        self._check_array(inputs)
        return np.asarray((inputs if noise is None else inputs + noise).argmax(-1))


@dataclass(frozen=True)
class MultiCategorical(ClosedForm):
    """Independent choices for a MultiDiscrete(nvec). Inputs: their logits, concatenated.

    Attributes:
        nvec: Number of choices of each of the m components.
    """

    nvec: tuple[int, ...]

    @cached_property
    def _parts(self) -> tuple[Categorical, ...]:
        return tuple(Categorical(n) for n in self.nvec)

    @cached_property
    def _slices(self) -> tuple[slice, ...]:
        ends = np.cumsum(self.nvec).tolist()
        return tuple(slice(end - n, end) for end, n in zip(ends, self.nvec, strict=True))

    @cached_property
    def size(self) -> int:
        return sum(self.nvec)

    @property
    def noise_size(self) -> int:
        return self.size

    @property
    def choices(self) -> tuple[int, ...]:
        return self.nvec

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    @property
    def action_dtype(self) -> np.dtype:
        return np.dtype(np.int64)

    def log_prob(self, inputs: Tensor, actions: Tensor) -> Tensor:
        self._check(inputs, actions=actions)
        split = zip(self._parts, self._split(inputs), actions.unbind(-1), strict=True)
        return torch.stack([p.log_prob(x, a) for p, x, a in split]).sum(0)

    def entropy(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        split = zip(self._parts, self._split(inputs), strict=True)
        return torch.stack([p.entropy(x) for p, x in split]).sum(0)

    def kl(self, inputs_old: Tensor, inputs_new: Tensor) -> Tensor:
        self._check(inputs_old, inputs_new)
        split = zip(self._parts, self._split(inputs_old), self._split(inputs_new), strict=True)
        return torch.stack([p.kl(old, new) for p, old, new in split]).sum(0)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        self._check_noise(inputs, noise)
        return self.mode(inputs + noise)

    def mode(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        return torch.stack([x.argmax(-1) for x in self._split(inputs)], dim=-1)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return gumbel_noise(rng, (*shape, self.size))

    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        self._check_array(inputs)
        scores = inputs if noise is None else inputs + noise
        actions = np.empty((*scores.shape[:-1], len(self.nvec)), np.int64)
        for j, part in enumerate(self._slices):
            actions[..., j] = scores[..., part].argmax(-1)
        return actions

    def _split(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.split(inputs, list(self.nvec), dim=-1)


def categorical_for(space: gym.Space) -> Categorical:
    """The family "categorical", of the methods that sum over an agent's actions.

    Args:
        space: Discrete, starting at 0.

    Returns:
        `Categorical`.

    Raises:
        ValueError: If the space is of another kind.
    """
    if isinstance(space, Discrete) and space.start == 0:
        return Categorical(int(space.n))
    raise ValueError(
        f"the action space is {space}, and this method draws from, or sums over, the choices of a "
        "Discrete (starting at 0)."
    )


def _log_softmax(logits: Tensor) -> Tensor:
    # Clamped, so that a probability of 0 gives 0 * log 0 = 0 and not NaN.
    return logits.log_softmax(-1).clamp(min=torch.finfo(logits.dtype).min)
