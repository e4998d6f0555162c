"""Actions that are both choices and numbers, drawn by one policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.functional.distributions import ClosedForm
from rllib_hetero.functional.stochastic import DiagGaussian, MultiCategorical


@dataclass(frozen=True)
class Mixed(ClosedForm):
    """Independent choices and normals, as one action with one density.

    Inputs: all logits, then the means, then the log standard deviations. Actions are float32: the
    numbers of the choices (m), then the components of the Box (k).

    Attributes:
        of_choices: The distribution of the choices.
        of_numbers: That of the Box.
    """

    within_space: ClassVar[bool] = False

    of_choices: MultiCategorical
    of_numbers: DiagGaussian

    @property
    def size(self) -> int:
        return self.of_choices.size + self.of_numbers.size

    @property
    def noise_size(self) -> int:
        return self.of_choices.noise_size + self.of_numbers.noise_size

    @property
    def choices(self) -> tuple[int, ...]:
        return self.of_choices.choices

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (len(self.of_choices.nvec) + self.of_numbers.dim,)

    @property
    def action_dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def log_prob(self, inputs: Tensor, actions: Tensor) -> Tensor:
        self._check(inputs, actions=actions)
        logits, normal = self._inputs(inputs)
        chosen, numbers = self.split(actions)
        return self.of_choices.log_prob(logits, chosen) + self.of_numbers.log_prob(normal, numbers)

    def entropy(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        logits, normal = self._inputs(inputs)
        return self.of_choices.entropy(logits) + self.of_numbers.entropy(normal)

    def kl(self, inputs_old: Tensor, inputs_new: Tensor) -> Tensor:
        self._check(inputs_old, inputs_new)
        old, new = self._inputs(inputs_old), self._inputs(inputs_new)
        return self.of_choices.kl(old[0], new[0]) + self.of_numbers.kl(old[1], new[1])

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        self._check_noise(inputs, noise)
        (logits, normal), p = self._inputs(inputs), self.of_choices.noise_size
        chosen = self.of_choices.sample(logits, noise[..., :p])
        numbers = self.of_numbers.sample(normal, noise[..., p:])
        return torch.cat([chosen.to(numbers.dtype), numbers], -1)

    def mode(self, inputs: Tensor) -> Tensor:
        self._check(inputs)
        logits, normal = self._inputs(inputs)
        numbers = self.of_numbers.mode(normal)
        return torch.cat([self.of_choices.mode(logits).to(numbers.dtype), numbers], -1)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        parts = (self.of_choices.noise(rng, shape), self.of_numbers.noise(rng, shape))
        return np.concatenate(parts, -1)

    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        self._check_array(inputs)
        p = self.of_choices.size
        drawn = (None, None) if noise is None else (noise[..., :p], noise[..., p:])
        chosen = self.of_choices.act(inputs[..., :p], drawn[0])
        numbers = self.of_numbers.act(inputs[..., p:], drawn[1])
        return np.concatenate([chosen.astype(np.float32), numbers], -1)

    def split(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Choices [..., m] int64 and numbers [..., k] of actions [..., m + k]."""
        m = len(self.of_choices.nvec)
        return actions[..., :m].long(), actions[..., m:]

    def _inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        p = self.of_choices.size
        return inputs[..., :p], inputs[..., p:]
