"""Normalises value targets by their running mean and standard deviation."""

from __future__ import annotations

import torch
from torch import nn


class ValueNorm(nn.Module):
    """Exponential moving average of mean and variance, corrected for its start at 0.

    The statistics are buffers: they follow the module to its device and into its checkpoint.
    (In the authors' code they silently leave the checkpoint when the module is on a GPU.) They
    are kept corrected, and as a variance instead of a second moment, so that single precision
    is enough: RLlib restores every weight in it.

    Args:
        beta: Weight of the old statistics in each update.

    Reference:
        Yu et al., NeurIPS 2022 (MAPPO), value normalisation; used by HARL, JMLR 2024.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    weight: torch.Tensor

    def __init__(self, beta: float = 0.99999) -> None:
        super().__init__()
        self.beta = beta
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.ones(()))
        # Sum of the average's weights so far, 1 - beta^updates: 0 until the first update.
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def update(self, moments: torch.Tensor) -> None:
        """Takes in one batch of targets.

            w <- beta w + (1 - beta),   a = (1 - beta) / w,   d = mean_batch - mean
            mean <- mean + a d,   var <- (1 - a) (var + a d^2) + a var_batch

        This is the average of first and second moments, each divided by w, rewritten.

        Args:
            moments: (3,) count, sum and sum of squares, already summed over all learners.
        """
        count, total, squares = moments.double()
        if count <= 0:
            return
        batch_mean = total / count
        batch_variance = (squares / count - batch_mean.square()).clamp(min=0.0)
        weight = self.beta * self.weight.double() + (1.0 - self.beta)
        a = (1.0 - self.beta) / weight
        d = batch_mean - self.mean.double()
        variance = (1.0 - a) * (self.variance.double() + a * d.square()) + a * batch_variance
        self.mean.add_(a * d)
        self.variance.copy_(variance)
        self.weight.copy_(weight)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """From returns to the critic's scale. Any shape."""
        return (x - self.mean) / self._std()

    def denormalize(self, x: torch.Tensor) -> torch.Tensor:
        """From the critic's scale to returns. Any shape."""
        return x * self._std() + self.mean

    def _std(self) -> torch.Tensor:
        # As in HARL: what hardly differs is not blown up.
        return self.variance.clamp(min=1e-2).sqrt()
