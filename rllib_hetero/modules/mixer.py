"""Mixers: the team's value, made of the values of each agent's own choice."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn
from torch.nn.functional import elu

from rllib_hetero.modules.encoders import encoded_first
from rllib_hetero.modules.targets import pairs, target_of

MIXER_DEFAULTS: dict[str, Any] = {
    # Units of the mixing network.
    "mixing_embed_dim": 32,
    # 1 or 2 layers in each of the networks that make its weights, and the units between two.
    "hypernet_layers": 2,
    "hypernet_embed": 64,
}
"""Every key of `config.rl_module(model_config={...})` that the mixers read."""

MIXER = "mixer"
"""Key of the critic's `model_config`: a name in `MIXERS`."""


class MonotonicMixer(nn.Module):
    """Rises with the value of every agent, by how much is a function of the state.

        h = ELU(|W_1(s)| q + b_1(s)),   Q_tot = |w_2(s)| h + b_2(s)

    As dQ_tot / dq_i >= 0, the joint action of the highest Q_tot is that of each agent's highest q:
    agents act alone on what they have learned together.

    Args:
        n: Number of agents.
        state_size: s.
        embed: Units of the mixing network.
        hypernet_layers: 1 or 2 layers between the state and W_1, and w_2.
        hypernet_embed: Units between two layers.

    Raises:
        ValueError: If there are to be other than 1 or 2 layers.

    Reference:
        Rashid et al., "QMIX: Monotonic Value Function Factorisation for Deep Multi-Agent
        Reinforcement Learning", ICML 2018, section 4.
    """

    def __init__(
        self,
        n: int,
        state_size: int,
        embed: int = 32,
        hypernet_layers: int = 2,
        hypernet_embed: int = 64,
    ) -> None:
        super().__init__()
        if hypernet_layers not in (1, 2):
            raise ValueError(
                f"`hypernet_layers` must be 1 or 2, got {hypernet_layers!r}. Set it with "
                "config.rl_module(model_config={'hypernet_layers': 2})."
            )

        def hypernet(out_size: int) -> nn.Module:
            if hypernet_layers == 1:
                return nn.Linear(state_size, out_size)
            return _two_layers(state_size, hypernet_embed, out_size)

        self.n, self.embed = n, embed
        self.first_weights, self.second_weights = hypernet(n * embed), hypernet(embed)
        self.first_bias = nn.Linear(state_size, embed)
        self.second_bias = _two_layers(state_size, embed, 1)

    def forward(self, q: Tensor, state: Tensor) -> Tensor:
        """Q_tot (...) of values (..., n) in states (..., s)."""
        first = self.first_weights(state).abs().unflatten(-1, (self.n, self.embed))
        hidden = elu((q.unsqueeze(-2) @ first).squeeze(-2) + self.first_bias(state))
        second = self.second_weights(state).abs()
        return (hidden * second).sum(-1) + self.second_bias(state).squeeze(-1)


class SumMixer(nn.Module):
    """The sum of the agents' values, whatever the state. It has no parameters.

    Reference:
        Sunehag et al., "Value-Decomposition Networks For Cooperative Multi-Agent Learning", 2017.
    """

    def forward(self, q: Tensor, state: Tensor) -> Tensor:
        """Q_tot (...) of values (..., n)."""
        return q.sum(-1)


class NoMixer(nn.Module):
    """Every agent's value on its own."""

    def forward(self, q: Tensor, state: Tensor) -> Tensor:
        """The values (..., n) as they are."""
        return q


MIXERS = ("monotonic", "sum", "none")


class TeamMixer(TorchRLModule):
    """A mixer and its target, as the team's critic. Only the learner has it.

    Its spaces: the state's Box (s,), and a Box (n,) of one value of each agent, in team order.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = (
            MIXER_DEFAULTS
            | {"layer_norm": False, "activation": "relu"}
            | dict(self.model_config or {})
        )
        (n,) = self.action_space.shape
        if model[MIXER] not in MIXERS:
            raise ValueError(f"Unknown mixer {model[MIXER]!r}; one of {MIXERS} is needed.")
        self.mixer: nn.Module = NoMixer() if model[MIXER] == "none" else SumMixer()
        if model[MIXER] == "monotonic":
            self.mixer = encoded_first(
                self.observation_space,
                model,
                lambda size: MonotonicMixer(
                    n,
                    size,
                    embed=model["mixing_embed_dim"],
                    hypernet_layers=model["hypernet_layers"],
                    hypernet_embed=model["hypernet_embed"],
                ),
                index=1,
            )
        self.target_mixer = target_of(self.mixer)

    def mix(self, q: Tensor, state: Tensor, active: Tensor) -> Tensor:
        """The team's value.

        Args:
            q: (..., n) values of the agents' choices, in team order.
            state: (..., s).
            active: (..., n) bool. An agent that is not alive enters with 0, and its value is not
                read.

        Returns:
            (...) Q_tot; (..., n) where nothing is mixed.
        """
        return self.mixer(torch.where(active, q, 0.0), state)

    def mix_target(self, q: Tensor, state: Tensor, active: Tensor) -> Tensor:
        """The same by the target."""
        return self.target_mixer(torch.where(active, q, 0.0), state)

    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(target, online) of every parameter; only a monotonic mixer has any."""
        return pairs(self.target_mixer, self.mixer)

    def q_parameters(self) -> list[nn.Parameter]:
        """What the loss of the values trains; only a monotonic mixer has any."""
        return list(self.mixer.parameters())


def _two_layers(in_size: int, hidden_size: int, out_size: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(in_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, out_size)
    )
