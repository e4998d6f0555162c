"""A critic of one value for all: what agents' copies come to if they are averaged."""

from __future__ import annotations

from collections.abc import Sequence

from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.modules.asked_critic import AskedQCritic


class AveragedQCritic(AskedQCritic):
    """Q(s, a) of the mean of all agents' returns: an `AskedQCritic` that is not told who asks.

    Each copy is fitted to its own agent's rewards. Averaged, the copies follow the mean of the
    agents' gradients, which is that of the mean reward. Told who asks, each would go on knowing
    its own return.

    Reference:
        Zhang et al., "Fully Decentralized Multi-Agent Reinforcement Learning with Networked
        Agents", ICML 2018, eq. 4.2 and 4.3.
    """

    @override(AskedQCritic)
    def asked(self, state: Tensor, agents: Sequence[int]) -> Tensor:
        """(k, B, s) for any k agents the same, from states (B, s)."""
        return self.norm(state).expand(len(agents), *state.shape)
