"""The centralised critic of the off-policy family: values of joint actions, seen from the state."""

from __future__ import annotations

import math
from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_hetero.modules.critic import NUM_CRITICS
from rllib_hetero.modules.encoders import ENCODER_DEFAULTS, encoded_first
from rllib_hetero.modules.networks import mlp
from rllib_hetero.modules.targets import pairs, target_of

Q_CRITIC_DEFAULTS: dict[str, Any] = {
    "hidden_sizes": [128, 128],
    # None: as `hidden_sizes`.
    "critic_hidden_sizes": None,
    "activation": "relu",
    "layer_norm": False,
    # Whether inputs come in units of their own running mean and deviation, see `RunningNorm`.
    "input_norm": False,
    **ENCODER_DEFAULTS,
}
"""Every key of `config.rl_module(model_config={...})` that the critics of joint actions read."""

NUM_TEMPERATURES, INITIAL_ALPHA = "num_temperatures", "initial_alpha"
"""Keys of the critic's `model_config`: number of agents with a temperature, and its first value."""

QF_PREDS = "qf_preds"
"""RLlib's name for predicted action values."""


class TeamQCritic(TorchRLModule):
    """Q(s, a) of the team's return, by one or two networks and their targets.

    Only the learner has it. Its spaces: the state's Box (s,), and a Box (A,) of the messages of
    all agents in team order (`functional.encode`: components of a Box, one-hots). An agent that
    is not alive has a message of zeros.

    For methods with entropy it also holds the agents' temperatures, so that they are in
    checkpoints. The loss of a temperature is not the loss of the values: `q_parameters` and
    `temperatures` are for optimisers of their own.

    Attributes:
        log_alpha: (n,) log of the agents' temperatures; None without.

    Reference:
        HARL Algorithms 6 and 7; networks as in the authors' code (PyTorch's initialisation).
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = Q_CRITIC_DEFAULTS | dict(self.model_config or {})
        (actions_size,) = self.action_space.shape
        self.networks = nn.ModuleList(
            encoded_first(
                self.observation_space, model, lambda size: _network(size + actions_size, model)
            )
            for _ in range(model.get(NUM_CRITICS, 1))
        )
        self.target_networks = target_of(self.networks)
        n, start = model.get(NUM_TEMPERATURES, 0), math.log(model.get(INITIAL_ALPHA, 1.0))
        self.log_alpha = nn.Parameter(torch.full((n,), start)) if n else None

    def q_values(self, state: Tensor, actions: Tensor) -> Tensor:
        """(num_critics, B) values of actions (B, A) in states (B, s)."""
        return _values(self.networks, state, actions)

    def first_q_values(self, state: Tensor, actions: Tensor) -> Tensor:
        """(B,) values by the first network: what actors learn from where they use one alone."""
        return self.networks[0](state, actions).squeeze(-1)

    def target_q_values(self, state: Tensor, actions: Tensor) -> Tensor:
        """(num_critics, B) values by the targets."""
        return _values(self.target_networks, state, actions)

    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(target, online) of every parameter that has a target."""
        return pairs(self.target_networks, self.networks)

    def q_parameters(self) -> list[nn.Parameter]:
        """What the loss of the values trains."""
        return list(self.networks.parameters())

    def temperatures(self) -> list[nn.Parameter]:
        """What the loss of the temperatures trains; empty without."""
        return [] if self.log_alpha is None else [self.log_alpha]

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {QF_PREDS: self.q_values(batch[Columns.OBS], batch[Columns.ACTIONS])}


def critic_body(in_size: int, model: dict[str, Any]) -> tuple[nn.Sequential, int]:
    """The hidden layers that a `model_config` asks for, and how many features they give."""
    hidden = list(model["critic_hidden_sizes"] or model["hidden_sizes"])
    body = mlp(
        in_size,
        hidden,
        activation=model["activation"],
        layer_norm=model["layer_norm"],
        orthogonal=False,
    )
    return body, hidden[-1]


def _network(in_size: int, model: dict[str, Any]) -> nn.Module:
    body, features = critic_body(in_size, model)
    return StateAndActions(body, nn.Linear(features, 1))


class StateAndActions(nn.Sequential):
    """Layers whose input is a state and joint actions, side by side."""

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:  # type: ignore[override]
        """(..., k) of states (..., s) and actions (..., A)."""
        return super().forward(torch.cat([state, actions], dim=-1))


def _values(networks: nn.ModuleList, state: Tensor, actions: Tensor) -> Tensor:
    return torch.stack([network(state, actions).squeeze(-1) for network in networks])
