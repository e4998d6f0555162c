"""One network for the values of all agents: who is asked is an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_hetero.modules.input_norm import InputNorm
from rllib_hetero.modules.q_critic import Q_CRITIC_DEFAULTS, TeamQCritic

ASKED_DEFAULTS: dict[str, Any] = Q_CRITIC_DEFAULTS | {
    "activation": "leaky_relu",
    # Whether the state is normalised by running statistics.
    "input_norm": True,
}
"""Every key of `config.rl_module(model_config={...})` that an `AskedQCritic` reads."""

NUM_AGENTS = "num_agents"
"""Key of the critic's `model_config`: n."""


class AskedQCritic(TeamQCritic):
    """Q_i(s, a) of any agent's return: a `TeamQCritic` that is told whose value is asked for.

    The state's Box is (s + n,): the agent's one-hot index comes last. So all members of a team have
    networks of one shape. (F2A2 does not say how one shared Q tells its agents apart; COMA's has
    that input.)
    """

    model_config: dict[str, Any]
    norm: InputNorm | nn.Identity

    @override(TorchRLModule)
    def setup(self) -> None:
        self.model_config = ASKED_DEFAULTS | dict(self.model_config or {})
        super().setup()
        self.num_agents = int(self.model_config[NUM_AGENTS])
        size = self.observation_space.shape[0] - self.num_agents
        self.norm = InputNorm(size) if self.model_config["input_norm"] else nn.Identity()

    def asked(self, state: Tensor, agents: Sequence[int]) -> Tensor:
        """(k, B, s + n) what the networks read for k agents, from states (B, s)."""
        who = torch.eye(self.num_agents, device=state.device)[list(agents)].unsqueeze(1)
        k, b = len(agents), len(state)
        return torch.cat([self.norm(state).expand(k, b, -1), who.expand(k, b, -1)], -1)
