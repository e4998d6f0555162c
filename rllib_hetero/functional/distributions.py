"""What lies over a module's outputs: the families' common interface.

The training half works on torch tensors. The acting half (`noise`, `act`) is numpy: it is called
once per environment step, on a few rows, where the overhead of torch would dominate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor


class Distribution(ABC):
    """How actions are drawn. Holds sizes only: the parameters are arguments.

    Shapes: `inputs` [..., size], `actions` [..., *action_shape], `noise` [..., noise_size].
    """

    within_space: ClassVar[bool] = True
    """Whether every action drawn lies in the action space, so that it is executed as it is."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of inputs per sample."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """Number of noise values per sample."""

    @property
    @abstractmethod
    def choices(self) -> tuple[int, ...]:
        """Number of choices of each component; empty where actions are not discrete.

        The first `sum(choices)` inputs belong to the choices, in this order.
        """

    @property
    @abstractmethod
    def action_shape(self) -> tuple[int, ...]:
        """Shape of one action."""

    @property
    @abstractmethod
    def action_dtype(self) -> np.dtype:
        """Dtype that actions are stored in."""

    @abstractmethod
    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """The action that the noise picks; an exploring action if noise is as from `noise`.

        Args:
            inputs: [..., size] parameters.
            noise: [..., noise_size] noise.

        Returns:
            [..., *action_shape] actions. Differentiable in `inputs` for Box only.

        Raises:
            ValueError: If the shapes do not fit.
        """

    @abstractmethod
    def mode(self, inputs: Tensor) -> Tensor:
        """The greedy action: the likeliest, or the one of the highest value.

        Args:
            inputs: [..., size] parameters.

        Returns:
            [..., *action_shape] actions. Differentiable in `inputs` for Box only.

        Raises:
            ValueError: If the shape does not fit.
        """

    @abstractmethod
    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws the noise for `act` and `sample`.

        Args:
            rng: Source of randomness.
            shape: Batch shape [...].

        Returns:
            [..., noise_size] float32.
        """

    @abstractmethod
    def act(self, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """`sample` (or `mode`, without noise) in numpy, for the sampling loop.

        Args:
            inputs: [..., size] float32 parameters.
            noise: [..., noise_size] float32 from `noise`; None for the mode.

        Returns:
            [..., *action_shape] actions of `action_dtype`.

        Raises:
            ValueError: If the shape does not fit.
        """

    def _check(self, *inputs: Tensor, actions: Tensor | None = None) -> None:
        for x in inputs:
            if x.shape[-1:] != (self.size,) or x.shape != inputs[0].shape:
                shapes = [tuple(x.shape) for x in inputs]
                raise ValueError(f"Inputs must have shape (..., {self.size}), got {shapes}.")
        if actions is not None and actions.shape != inputs[0].shape[:-1] + self.action_shape:
            raise ValueError(
                f"Actions must have shape (..., *{self.action_shape}) on inputs of shape "
                f"{tuple(inputs[0].shape)}, got {tuple(actions.shape)}."
            )

    def _check_noise(self, inputs: Tensor, noise: Tensor) -> None:
        self._check(inputs)
        if noise.shape != (*inputs.shape[:-1], self.noise_size):
            raise ValueError(
                f"Noise must have shape (..., {self.noise_size}) on inputs of shape "
                f"{tuple(inputs.shape)}, got {tuple(noise.shape)}."
            )

    def _check_array(self, inputs: np.ndarray) -> None:
        if inputs.shape[-1] != self.size:
            raise ValueError(f"Inputs must have shape (..., {self.size}), got {inputs.shape}.")


class Density(Distribution):
    """A distribution whose probabilities (discrete) or density (Box) are known.

    The log-probability is that of the joint action: one number [...] per sample, summed over its
    components, so that exp of a difference is the whole action's ratio.
    """

    @abstractmethod
    def log_prob(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """Log pi(a).

        Args:
            inputs: [..., size] parameters.
            actions: [..., *action_shape] actions.

        Returns:
            [...] log-probability (density) of the joint action.

        Raises:
            ValueError: If the shapes do not fit.
        """


class ClosedForm(Density):
    """A density whose entropy and KL divergence have closed forms; of joint actions, as above."""

    @abstractmethod
    def entropy(self, inputs: Tensor) -> Tensor:
        """E[-log pi(a)].

        Args:
            inputs: [..., size] parameters.

        Returns:
            [...] entropy of the joint action.

        Raises:
            ValueError: If the shape does not fit.
        """

    @abstractmethod
    def kl(self, inputs_old: Tensor, inputs_new: Tensor) -> Tensor:
        """KL(old || new) = E_old[log old(a) - log new(a)].

        Args:
            inputs_old: [..., size] parameters of the distribution the mean is taken under.
            inputs_new: [..., size] parameters of the other one.

        Returns:
            [...] divergence, twice differentiable in both (as HARL eq. 8 needs).

        Raises:
            ValueError: If the shapes do not fit.
        """
