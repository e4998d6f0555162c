"""Normalises value targets by their running mean and standard deviation."""

from __future__ import annotations

import torch
from torch import nn


class ValueNorm(nn.Module):
    """Exponential moving average of the first two moments, corrected for its start at 0.

    The statistics are buffers: they follow the module to its device and into its checkpoint.
    (In the authors' code they silently leave the checkpoint when the module is on a GPU.)

    Args:
        beta: Weight of the old statistics in each update.

    Reference:
        Yu et al., NeurIPS 2022 (MAPPO), value normalisation; used by HARL, JMLR 2024.
    """

    mean: torch.Tensor
    mean_square: torch.Tensor
    debias: torch.Tensor

    def __init__(self, beta: float = 0.99999) -> None:
        super().__init__()
        self.beta = beta
        # Double: with beta this close to 1, single precision loses the first updates.
        for name in ("mean", "mean_square", "debias"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, moments: torch.Tensor) -> None:
        """Takes in one batch of targets.

        Args:
            moments: (3,) count, sum and sum of squares, already summed over all learners.
        """
        count, total, squares = moments.double()
        if count <= 0:
            return
        w = self.beta
        self.mean.mul_(w).add_((1 - w) * total / count)
        self.mean_square.mul_(w).add_((1 - w) * squares / count)
        self.debias.mul_(w).add_(1 - w)

    def _mean_std(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.debias == 0:  # Nothing seen yet: the identity.
            return self.mean.float(), torch.ones_like(self.mean).float()
        mean = self.mean / self.debias
        variance = self.mean_square / self.debias - mean.square()
        return mean.float(), variance.clamp(min=1e-2).sqrt().float()

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """From returns to the critic's scale. Any shape."""
        mean, std = self._mean_std()
        return (x - mean) / std

    def denormalize(self, x: torch.Tensor) -> torch.Tensor:
        """From the critic's scale to returns. Any shape."""
        mean, std = self._mean_std()
        return x * std + mean
