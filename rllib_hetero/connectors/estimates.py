"""What advantages are estimated from, kept so that they can be estimated again."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rllib_hetero.functional import generalized_advantages


@dataclass(frozen=True)
class TeamEstimates:
    """Rewards and values of a batch on a grid of T steps and C environments.

    Every environment of every fragment is one column, shorter ones padded, so that a recursion
    over time runs once whatever the number of runners.

    Attributes:
        rewards: (T, C) team rewards.
        values: (T, C, K) of K value functions.
        next_values: (T, C, K) to bootstrap from.
        cut: (T, C) bool, where the trace stops.
        valid: (T, C) bool, where there is a row.
        gamma: Discount.
        lambda_: Trace decay.
    """

    rewards: Tensor
    values: Tensor
    next_values: Tensor
    cut: Tensor
    valid: Tensor
    gamma: float
    lambda_: float

    def advantages(self, ratios: Tensor | None = None) -> Tensor:
        """Generalised advantage estimates (B, K) in row order.

        Args:
            ratios: (B,) probability of each row's joint action under the agents as updated so
                far over that under those that sampled. With it, the later steps of a trajectory
                count by as much as the updated team would still do what was done.
        """
        grid = None if ratios is None else self.to_grid(ratios)
        return self.to_rows(
            generalized_advantages(
                self.rewards,
                self.values,
                self.next_values,
                self.cut,
                gamma=self.gamma,
                lambda_=self.lambda_,
                ratios=grid,
            )
        )

    def to_grid(self, rows: Tensor) -> Tensor:
        """(T, C, ...) from rows (B, ...); 0 where there is no row."""
        grid = rows.new_zeros(*reversed(self.valid.shape), *rows.shape[1:])
        grid[self.valid.T] = rows
        return grid.transpose(0, 1)

    def to_rows(self, grid: Tensor) -> Tensor:
        """(B, ...) from (T, C, ...): by environment, then time."""
        return grid.transpose(0, 1)[self.valid.T]
