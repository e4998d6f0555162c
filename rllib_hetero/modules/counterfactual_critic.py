"""COMA's critic: for each agent the values of all its actions, the others' being given."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn
from torch.nn.functional import linear as apply_linear
from torch.nn.functional import one_hot

from rllib_hetero.modules.actor import MODEL_DEFAULTS
from rllib_hetero.modules.encoders import encoded_first
from rllib_hetero.modules.networks import linear, mlp
from rllib_hetero.modules.q_critic import QF_PREDS
from rllib_hetero.modules.targets import pairs, target_of
from rllib_hetero.modules.value_norm import ValueNorm


class CounterfactualCritic(TorchRLModule):
    """Q(s, (., a_-i), i) for every agent i, and its target. Only learners have it.

    Its spaces: the state's Box (s,), and a MultiDiscrete of the agents' numbers of actions.

    Attributes:
        normalizer: Goes between the networks' scale and that of returns; the identity until it
            is updated.
        steps: () how many gradient steps there were, which says when the target moves.
    """

    steps: Tensor

    @override(TorchRLModule)
    def setup(self) -> None:
        model = MODEL_DEFAULTS | dict(self.model_config or {})
        self.num_actions = [int(n) for n in self.action_space.nvec]
        self.network = encoded_first(
            self.observation_space,
            model,
            lambda size: ActionsOfEach(size, self.num_actions, model),
            orthogonal=True,
        )
        self.target_network = target_of(self.network)
        self.normalizer = ValueNorm()
        self.register_buffer("steps", torch.zeros(()))

    def q_values(self, state: Tensor, actions: Tensor) -> Tensor:
        """Values (..., n, p) on the networks' scale, p being the largest number of actions.

        Args:
            state: (..., s).
            actions: (..., A) the one-hots of all agents side by side; an agent's own are not read
                by its values. Zeros for one that is not alive.

        Returns:
            Of an agent with fewer actions, the values behind its last one mean nothing.
        """
        return self.network(state, actions)

    def target_q_values(self, state: Tensor, actions: Tensor) -> Tensor:
        """The same by the target."""
        return self.target_network(state, actions)

    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(target, online) of every parameter."""
        return pairs(self.target_network, self.network)

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Values (B, n) of the agents' actions `ACTIONS` (B, n), all alive."""
        chosen = batch[Columns.ACTIONS].long()
        ones = [one_hot(a, n).float() for a, n in zip(chosen.T, self.num_actions, strict=True)]
        values = self.q_values(batch[Columns.OBS], torch.cat(ones, -1))
        return {QF_PREDS: values.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)}


class ActionsOfEach(nn.Module):
    """One network for all agents: state, the others' actions and the agent's one-hot index.

    The first layer is linear, so that its part of the state is computed once for all agents.

    Args:
        state_size: s.
        num_actions: (n) p_i.
        model: The whole `model_config`. With `layer_norm`, the input itself is not normalised.

    Reference:
        Foerster et al., "Counterfactual Multi-Agent Policy Gradients", AAAI 2018, Figure 1c.
    """

    others: Tensor

    def __init__(self, state_size: int, num_actions: Sequence[int], model: dict[str, Any]) -> None:
        super().__init__()
        n, ends = len(num_actions), list(accumulate(num_actions))
        self.state_size, self.joint_size = state_size, ends[-1]
        # Row i: which entries of the one-hots are not of agent i.
        others = torch.ones(n, ends[-1])
        for i, (p, end) in enumerate(zip(num_actions, ends, strict=True)):
            others[i, end - p : end] = 0.0
        self.register_buffer("others", others, persistent=False)
        hidden = list(model["critic_hidden_sizes"] or model["hidden_sizes"])
        layers = list(
            mlp(
                state_size + ends[-1] + n,
                hidden,
                activation=model["activation"],
                layer_norm="hidden" if model["layer_norm"] else False,
            )
        )
        self.first: nn.Linear = layers[0]  # type: ignore[assignment]
        self.rest = nn.Sequential(*layers[1:], linear(hidden[-1], max(num_actions), gain=1.0))

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """As `CounterfactualCritic.q_values`."""
        sizes = [self.state_size, self.joint_size, len(self.others)]
        of_state, of_actions, of_agents = self.first.weight.split(sizes, -1)
        x = apply_linear(state, of_state, self.first.bias).unsqueeze(-2) + of_agents.t()
        x = x + apply_linear(actions.unsqueeze(-2) * self.others, of_actions)
        return self.rest(x)
