"""A critic that knows what its agent sees, and nothing of the others."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_hetero.modules.critic import NUM_CRITICS
from rllib_hetero.modules.q_critic import Q_CRITIC_DEFAULTS, QF_PREDS, critic_body
from rllib_hetero.modules.targets import pairs, target_of


class OwnQCritic(TorchRLModule):
    """Q(o_i, .) of all own actions, by one or two networks and their targets.

    Only learners have it. Its spaces are an agent's own: a Box (d,) and a Discrete.

    Reference:
        Li et al., "F2A2", JMLR 2023, section 5.1.2, F2A2-ISAC: Q(o_i, a_i).
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = Q_CRITIC_DEFAULTS | dict(self.model_config or {})
        self.networks = nn.ModuleList(
            self._network(model) for _ in range(model.get(NUM_CRITICS, 1))
        )
        self.target_networks = target_of(self.networks)

    def _network(self, model: dict[str, Any]) -> nn.Module:
        body, features = critic_body(self.observation_space.shape[0], model)
        return nn.Sequential(body, nn.Linear(features, int(self.action_space.n)))

    def q_values(self, observations: Tensor) -> Tensor:
        """(num_critics, ..., p) values of all actions, from observations (..., d)."""
        return torch.stack([network(observations) for network in self.networks])

    def target_q_values(self, observations: Tensor) -> Tensor:
        """The same by the targets."""
        return torch.stack([network(observations) for network in self.target_networks])

    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(target, online) of every parameter."""
        return pairs(self.target_networks, self.networks)

    def q_parameters(self) -> list[nn.Parameter]:
        """What the loss of the values trains."""
        return list(self.networks.parameters())

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {QF_PREDS: self.q_values(batch[Columns.OBS])}
