"""The dueling head: how good a state is, and how much better each action is than the others."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rllib_hetero.modules.networks import mlp


class DuelingHead(nn.Module):
    """Q(a) = V + A(a) - mean over all actions of A, with a network of its own for V and for A.

    Args:
        in_size: Size of the input's last axis.
        num_actions: n.
        hidden_sizes: Hidden layers of each of the two networks.
        activation: Their activation.

    Reference:
        Wang et al., "Dueling Network Architectures", ICML 2016, eq. 9; Zhong et al., JMLR 2024,
        Table 8.
    """

    def __init__(
        self, in_size: int, num_actions: int, *, hidden_sizes: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self.value, self.advantage = (
            nn.Sequential(
                *mlp(
                    in_size, hidden_sizes, activation=activation, layer_norm=False, orthogonal=False
                ),
                nn.Linear(hidden_sizes[-1], size),
            )
            for size in (1, num_actions)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Q-values (..., n) of features (..., in_size)."""
        return self.combine(self.value(x), self.advantage(x))

    @staticmethod
    def combine(value: Tensor, advantage: Tensor) -> Tensor:
        """Q-values (..., n) from V (..., 1) and A (..., n)."""
        return value + advantage - advantage.mean(-1, keepdim=True)
