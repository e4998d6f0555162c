"""Inputs in units of their own spread, by statistics that are kept beside the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM = 0.01
"""How much of the running statistics a minibatch replaces, once they are old."""


class InputNorm(nn.Module):
    """Subtracts the mean of what was seen, and divides by its standard deviation.

    MAAC's networks have batch normalisation on their inputs. With a minibatch's own statistics
    the output of one row depends on the other rows: a runner, which acts on a few, would follow
    another policy than the one that is trained, and so would several learners on parts of a
    minibatch. Here all of them use the running statistics, which only `update` moves.

    It has no weights, and starts as the identity. Outputs are within [-`limit`, `limit`].

    Args:
        size: d.
        limit: Some inputs are far off now and then, such as the place of what is not there.
    """

    mean: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, size: int, limit: float = 10.0) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("updates", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) from (..., d)."""
        shift, scale = self.affine()
        return torch.addcmul(shift, x, scale).clamp(-self.limit, self.limit)

    def affine(self) -> tuple[Tensor, Tensor]:
        """(d,) what is added after multiplying, and (d,) what is multiplied by."""
        scale = torch.rsqrt(self.variance + 1e-5)
        return -self.mean * scale, scale

    @torch.no_grad()
    def update(self, moments: Tensor) -> None:
        """Moves the statistics towards those of a minibatch.

        Args:
            moments: (1 + 2 d,) the number of rows, the sums of inputs and of their squares, as
                `moments_of` gives them: of all learners' rows, summed.
        """
        count, sums, squares = moments.split([1, len(self.mean), len(self.mean)])
        if count <= 0:
            return
        mean = sums / count
        variance = (squares / count - mean.square()).clamp(min=0.0)
        self.updates += 1
        # At first the plain mean over minibatches, so that the start leaves no trace.
        share = torch.clamp(1.0 / self.updates, min=MOMENTUM)
        between = share * (1.0 - share) * (mean - self.mean).square()
        self.variance.lerp_(variance, share).add_(between)
        self.mean.lerp_(mean, share)

    def extra_repr(self) -> str:
        return f"{len(self.mean)}, limit={self.limit}"


class RunningNorm(InputNorm):
    """The same, by the mean and variance of all rows that were ever seen, each counted alike.

    So do Baselines' running statistics, and so the order in which rows come does not matter: they
    may be of any number of runners. Until the first update it is the identity.
    """

    rows: Tensor

    def __init__(self, size: int, limit: float = 10.0) -> None:
        super().__init__(size, limit)
        del self.updates
        self.register_buffer("rows", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, moments: Tensor) -> None:
        """Adds rows to the statistics.

        Args:
            moments: As of `InputNorm.update`, in float64: squares of large numbers lie close
                together.
        """
        count, sums, squares = moments.split([1, len(self.mean), len(self.mean)])
        if count <= 0:
            return
        mean = sums / count
        variance = (squares / count - mean.square()).clamp(min=0.0)
        self.rows += count[0]
        share = count / self.rows
        old_mean, old_variance = self.mean.double(), self.variance.double()
        between = share * (1.0 - share) * (mean - old_mean).square()
        self.variance.copy_(torch.lerp(old_variance, variance, share) + between)
        self.mean.copy_(torch.lerp(old_mean, mean, share))


def running_norms(layers: nn.Module | None) -> list[RunningNorm]:
    """Those among the layers of one network, or of several with the same input; none of None."""
    parts = [] if layers is None else layers.modules()
    return [part for part in parts if isinstance(part, RunningNorm)]


def moments_of(x: Tensor, weights: Tensor) -> Tensor:
    """(1 + 2 d,) number of rows, sums and sums of squares, of rows (B, d) weighted by (B,)."""
    weighted = x * weights[:, None]
    return torch.cat([weights.sum()[None], weighted.sum(0), (weighted * x).sum(0)])


def moments_of_those_there(x: Tensor, there: Tensor) -> Tensor:
    """(1 + 2 d,) float64 moments, as `RunningNorm.update` takes them, of rows that count.

    Args:
        x: (..., d). What the others hold may be anything.
        there: (...) bool or 0 and 1, which rows count.
    """
    x = torch.where(there[..., None] > 0, x, 0.0)
    return moments_of(x.flatten(0, -2).double(), there.flatten().double())
