"""MAAC's critic: each agent's action values, who attends to what the others see and do.

[1] Iqbal and Sha: Actor-Attention-Critic for Multi-Agent Reinforcement Learning. ICML 2019.
    Section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn
from torch.nn.functional import one_hot

from rllib_hetero.modules.critic import NUM_CRITICS
from rllib_hetero.modules.input_norm import InputNorm
from rllib_hetero.modules.q_critic import QF_PREDS
from rllib_hetero.modules.targets import pairs, target_of

ATTENTION_DEFAULTS: dict[str, Any] = {
    # Units of every layer of the critic.
    "attention_size": 128,
    "num_attention_heads": 4,
    # Whether observations are normalised by running statistics, the actors' as well.
    "input_norm": True,
}
"""Every key of `config.rl_module(model_config={...})` that the attention critic reads."""

OBSERVATION_SIZES = "observation_sizes"
"""Key of the critic's `model_config`: (n) d_j, in team order."""

VALUED_AGENTS = "valued_agents"
"""Key of the critic's `model_config`: indices of the agents whose values it gives; None: all."""


class AttentionValues(NamedTuple):
    """What one network says, of the m agents that it values.

    Attributes:
        values: (B, p_i) of each, Q_i(o, (., a_-i)) of all own actions.
        magnitudes: (B, m) mean square of the attention logits over living others, summed over the
            heads: what [1]'s code penalises; 0 where nobody else lives.
    """

    values: list[Tensor]
    magnitudes: Tensor


class AttentionCritic(TorchRLModule):
    """Q_i of all agents, or of some, by one or more networks and their targets.

    Only learners have it. Its spaces: a Box of all agents' observations side by side, and a
    MultiDiscrete of their numbers of actions. `model_config` says how wide each observation is.

    All agents' values in one module are MAAC. A member of F2A2 has a module that values its own
    agents alone: the attention (see `in_attention`) has the same parameters, in the same order, in
    both.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = ATTENTION_DEFAULTS | dict(self.model_config or {})
        self.sizes = [int(d) for d in model[OBSERVATION_SIZES]]
        self.num_actions = [int(p) for p in self.action_space.nvec]
        valued = model.get(VALUED_AGENTS)
        self.valued = list(range(len(self.sizes))) if valued is None else [int(i) for i in valued]
        self.normalizes = bool(model["input_norm"])
        # Beside the networks, so that the targets work on the same numbers.
        self.norms = nn.ModuleList(
            InputNorm(d) if self.normalizes else nn.Identity() for d in self.sizes
        )
        self.networks = nn.ModuleList(
            AttentionNetwork(
                self.sizes,
                self.num_actions,
                self.valued,
                size=model["attention_size"],
                num_heads=model["num_attention_heads"],
            )
            for _ in range(model.get(NUM_CRITICS, 1))
        )
        self.target_networks = target_of(self.networks)

    def q_values(
        self, observations: Sequence[Tensor], actions: Sequence[Tensor], active: Tensor
    ) -> list[AttentionValues]:
        """What each network says.

        Args:
            observations: (B, d_j) of all n agents in team order.
            actions: (B, p_j) one-hots of theirs, or probabilities. Of an agent whose values are
                asked for, its own is not read by them.
            active: (B, n) bool. Nobody attends to an agent that is not alive.
        """
        return self._of(self.networks, observations, actions, active)

    def target_q_values(
        self, observations: Sequence[Tensor], actions: Sequence[Tensor], active: Tensor
    ) -> list[AttentionValues]:
        """The same by the targets."""
        return self._of(self.target_networks, observations, actions, active)

    def speak_for(self, agents: Sequence[int]) -> None:
        """From now on, gives the values of these agents alone; all parameters stay.

        Args:
            agents: Indices, of those that were valued at first.
        """
        self.valued = list(agents)
        for network in (*self.networks, *self.target_networks):
            network.valued = self.valued

    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(target, online) of every parameter that has a target."""
        return pairs(self.target_networks, self.networks)

    def q_parameters(self) -> list[nn.Parameter]:
        """What the loss of the values trains."""
        return list(self.networks.parameters())

    def attention_parameters(self) -> list[nn.Parameter]:
        """Those of them that serve all agents."""
        named = self.networks.named_parameters()
        return [p for name, p in named if in_attention(name)]

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Values of the agents' actions `ACTIONS` (B, n), all alive: (num_critics, B, m)."""
        observations = list(batch[Columns.OBS].split(self.sizes, -1))
        chosen = batch[Columns.ACTIONS].long()
        actions = [one_hot(a, p).float() for a, p in zip(chosen.T, self.num_actions, strict=True)]
        active = torch.ones_like(chosen, dtype=torch.bool)
        said = [
            torch.stack(picked(out.values, [actions[i] for i in self.valued]), -1)
            for out in self.q_values(observations, actions, active)
        ]
        return {QF_PREDS: torch.stack(said)}

    def _of(
        self,
        networks: nn.ModuleList,
        observations: Sequence[Tensor],
        actions: Sequence[Tensor],
        active: Tensor,
    ) -> list[AttentionValues]:
        seen = [norm(o) for norm, o in zip(self.norms, observations, strict=True)]
        return [network(seen, actions, active) for network in networks]


class AttentionNetwork(nn.Module):
    """[1], eq. 5 and 6: Q_i = head_i(s_i(o_i), x_i), x_i what i attends to.

    Attributes:
        states: s_i, by the agent's index: its observation encoded.
        heads: Two layers from (s_i, x_i) to the values of all own actions.
        attention: Everything that serves all agents.

    Args:
        sizes: (n) d_j of the observations.
        num_actions: (n) p_j.
        valued: Indices of the m agents whose values are given.
        size: h, units of every layer.
        num_heads: H; h must be a multiple.

    Raises:
        ValueError: If it is not.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        num_actions: Sequence[int],
        valued: Sequence[int],
        *,
        size: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.valued = list(valued)
        self.attention = Attention(sizes, num_actions, size, num_heads)
        self.states = nn.ModuleDict(
            {str(i): nn.Sequential(nn.Linear(sizes[i], size), nn.LeakyReLU()) for i in valued}
        )
        self.heads = nn.ModuleDict(
            {
                str(i): nn.Sequential(
                    nn.Linear(2 * size, size), nn.LeakyReLU(), nn.Linear(size, num_actions[i])
                )
                for i in valued
            }
        )

    def forward(
        self, observations: Sequence[Tensor], actions: Sequence[Tensor], active: Tensor
    ) -> AttentionValues:
        """As `AttentionCritic.q_values`, of normalised observations."""
        states = torch.stack([self.states[str(i)](observations[i]) for i in self.valued], 1)
        attended, magnitudes = self.attention(states, self.valued, observations, actions, active)
        inputs = torch.cat([states, attended], -1).unbind(1)
        values = [self.heads[str(i)](x) for i, x in zip(self.valued, inputs, strict=True)]
        return AttentionValues(values, magnitudes)


class Attention(nn.Module):
    """Several heads of scaled dot products between agents; [1], eq. 6.

    Attributes:
        encoders: F_j from (o_j, a_j) to h features.
        keys, queries, values: Of all H heads, h/H numbers each. Queries are made from s_i, keys
            and values from the others' features.
    """

    def __init__(
        self, sizes: Sequence[int], num_actions: Sequence[int], size: int, num_heads: int
    ) -> None:
        super().__init__()
        check_heads(size, num_heads)
        self.num_heads = num_heads
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(d + p, size), nn.LeakyReLU())
            for d, p in zip(sizes, num_actions, strict=True)
        )
        self.keys = nn.Linear(size, size, bias=False)
        self.queries = nn.Linear(size, size, bias=False)
        self.values = nn.Sequential(nn.Linear(size, size), nn.LeakyReLU())

    def forward(
        self,
        states: Tensor,
        valued: Sequence[int],
        observations: Sequence[Tensor],
        actions: Sequence[Tensor],
        active: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(B, m, h) what the m agents attend to, and (B, m), see `AttentionValues`.

        Args:
            states: (B, m, h) s_i of those agents.
            valued: Their indices.
            observations: (B, d_j) of all agents.
            actions: (B, p_j).
            active: (B, n) bool.
        """
        features = torch.stack(
            [
                encode(torch.cat([o, a], -1))
                for encode, o, a in zip(self.encoders, observations, actions, strict=True)
            ],
            1,
        )
        keys, values = (self._split(f(features)) for f in (self.keys, self.values))  # (B, H, n, h')
        queries = self._split(self.queries(states))
        logits = queries @ keys.transpose(-1, -2)  # (B, H, m, n)

        indices = torch.arange(active.shape[1], device=active.device)
        own = indices.new_tensor(list(valued))[:, None] == indices  # (m, n)
        others = (active[:, None] & ~own)[:, None]  # (B, 1, m, n)
        scaled = logits / math.sqrt(keys.shape[-1])
        lowest = torch.finfo(logits.dtype).min
        # Where nobody else lives, all are as likely: the second mask leaves nothing of them.
        weights = torch.where(others, scaled, lowest).softmax(-1) * others
        attended = (weights @ values).transpose(1, 2).flatten(-2)
        squares = (logits.square() * others).sum((1, 3))
        return attended, squares / others.sum((1, 3)).clamp(min=1)

    def _split(self, x: Tensor) -> Tensor:
        """(B, H, k, h/H) from (B, k, h)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def check_heads(size: int, num_heads: int) -> None:
    """Raises ValueError unless the units can be shared evenly by the heads."""
    good = all(isinstance(x, int) and x >= 1 for x in (size, num_heads))
    if not good or size % num_heads:
        raise ValueError(
            f"`attention_size` {size!r} must be a multiple of `num_attention_heads` {num_heads!r}: "
            "config.rl_module(model_config={'attention_size': 128, 'num_attention_heads': 4})."
        )


def in_attention(name: str) -> bool:
    """Whether a parameter of an attention critic, by its name, serves all agents.

    Those are keys, queries, values and the encoders F of what agents see and do; the rest, an
    agent's own encoder and head, serves that agent alone.
    """
    return "attention" in name.split(".")


def picked(values: Sequence[Tensor], actions: Sequence[Tensor]) -> list[Tensor]:
    """(B,) the value of each agent's action, from (B, p_i) values and one-hots."""
    return [(q * a).sum(-1) for q, a in zip(values, actions, strict=True)]
