"""Joint action values of a team with discrete actions, which one agent's actions can be read from.

Two networks answer the same questions. One gives all joint actions at once, the paper's: exact,
and as large as their number. The other takes the actions as inputs: as large as the sum of the
agents' numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn
from torch.nn.functional import linear

from rllib_hetero.functional.joint_actions import agent_row, joint_index
from rllib_hetero.modules.dueling import DuelingHead
from rllib_hetero.modules.encoders import encoded_first
from rllib_hetero.modules.q_critic import Q_CRITIC_DEFAULTS, critic_body
from rllib_hetero.modules.targets import pairs, target_of

JOINT_CRITIC = "joint_critic"
"""Key of the critic's `model_config`: which of `JOINT_CRITICS`; an algorithm's setting."""

JOINT_Q_DEFAULTS: dict[str, Any] = {
    **Q_CRITIC_DEFAULTS,
    "dueling_hidden_sizes": [128],
    "dueling_activation": "hardswish",
}
"""Every key of `config.rl_module(model_config={...})` that the joint critics read."""

MAX_JOINT_SIZE = 4096
"""The largest number of joint actions that the joint head is built for."""


class JointValues(Protocol):
    """Q(s, .) of given states."""

    def of(self, actions: Tensor) -> Tensor:
        """(B,) values of joint actions (B, n)."""

    def of_agent(self, agent: int, actions: Tensor) -> Tensor:
        """(B, n_i) values of all actions of an agent, the others' being those of (B, n)."""


def check_joint_size(nvec: Sequence[int]) -> None:
    """Refuses joint heads that are too large.

    Raises:
        ValueError: If there are more than `MAX_JOINT_SIZE` joint actions.
    """
    size = math.prod(nvec)
    if size > MAX_JOINT_SIZE:
        raise ValueError(
            f"The joint head has one output for each joint action, here {size:,} of "
            f"{len(nvec)} agents; at most {MAX_JOINT_SIZE:,} are allowed. Use the critic that "
            "takes actions as inputs: config.training(joint_critic='one_hot')."
        )


class JointHead(nn.Module):
    """A dueling network from the state to the values of all joint actions.

    It has no output for an agent that does nothing: one that is not alive counts as taking its
    first action.

    Args:
        state_size: s.
        nvec: The number of actions of each agent.
        model: The whole `model_config`.

    Raises:
        ValueError: As `check_joint_size`.

    Reference:
        HARL Appendix I; its Table 8 has the sizes.
    """

    def __init__(self, state_size: int, nvec: Sequence[int], model: dict[str, Any]) -> None:
        super().__init__()
        check_joint_size(nvec)
        self.nvec = tuple(nvec)
        body, features = critic_body(state_size, model)
        head = DuelingHead(
            features,
            math.prod(nvec),
            hidden_sizes=model["dueling_hidden_sizes"],
            activation=model["dueling_activation"],
        )
        self.network = nn.Sequential(body, head)

    def forward(self, state: Tensor, active: Tensor) -> JointValues:
        return _HeadValues(self.network(state), self.nvec, active)


class ActionInputs(nn.Module):
    """A network from the state and the one-hots of all actions to one value.

    The one-hot of an agent that is not alive is all zeros. There are no dueling branches: the
    mean of the advantages would be one over all joint actions.

    The first layer is linear, so that its parts of the state, of the others' actions and of each
    own action are computed once and added up.

    Args:
        state_size: s.
        nvec: The number of actions of each agent.
        model: The whole `model_config`. With `layer_norm`, the input itself is not normalised.
    """

    agents: Tensor
    choices: Tensor
    first: nn.Linear

    def __init__(self, state_size: int, nvec: Sequence[int], model: dict[str, Any]) -> None:
        super().__init__()
        self.state_size = state_size
        ends = list(accumulate(nvec))
        self.blocks = [slice(end - n, end) for n, end in zip(nvec, ends, strict=True)]
        # Of each entry of the one-hots: whose it is, and for which action.
        agents, choices = zip(*((i, a) for i, n in enumerate(nvec) for a in range(n)), strict=True)
        self.register_buffer("agents", torch.tensor(agents), persistent=False)
        self.register_buffer("choices", torch.tensor(choices), persistent=False)
        norm = {"layer_norm": "hidden"} if model["layer_norm"] else {}
        body, features = critic_body(state_size + sum(nvec), model | norm)
        layers = list(body)
        self.first = layers[0]  # type: ignore[assignment]
        self.rest = nn.Sequential(*layers[1:], nn.Linear(features, 1))

    def forward(self, state: Tensor, active: Tensor) -> JointValues:
        of_state = linear(state, self.first.weight[:, : self.state_size], self.first.bias)
        return _InputValues(self, of_state, active)


JOINT_CRITICS = {"exact": JointHead, "one_hot": ActionInputs}
"""By name, the networks to choose from."""


class JointQCritic(TorchRLModule):
    """Q(s, a) of the team's return, for discrete actions, and its target. Only the learner has it.

    Its spaces: the state's Box (s,), and a MultiDiscrete of the agents' numbers of actions, in
    team order.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = JOINT_Q_DEFAULTS | dict(self.model_config or {})
        nvec = [int(n) for n in self.action_space.nvec]
        make = JOINT_CRITICS[model[JOINT_CRITIC]]
        self.network = encoded_first(
            self.observation_space, model, lambda size: make(size, nvec, model)
        )
        self.target_network = target_of(self.network)

    def at(self, state: Tensor, active: Tensor) -> JointValues:
        """Q(s, .).

        Args:
            state: (B, s).
            active: (B, n) bool. The action of an agent that is not alive is not read.
        """
        return self.network(state, active)

    def target_at(self, state: Tensor, active: Tensor) -> JointValues:
        """The same by the target."""
        return self.target_network(state, active)

    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(target, online) of every parameter."""
        return pairs(self.target_network, self.network)

    def q_parameters(self) -> list[nn.Parameter]:
        """What the loss of the values trains."""
        return list(self.network.parameters())


class _HeadValues:
    def __init__(self, values: Tensor, nvec: tuple[int, ...], active: Tensor) -> None:
        self.values, self.nvec, self.active = values, nvec, active

    def of(self, actions: Tensor) -> Tensor:
        index = joint_index(actions * self.active, self.nvec)
        return self.values.gather(-1, index.unsqueeze(-1)).squeeze(-1)

    def of_agent(self, agent: int, actions: Tensor) -> Tensor:
        return agent_row(self.values, agent, actions * self.active, self.nvec)


class _InputValues:
    def __init__(self, network: ActionInputs, of_state: Tensor, active: Tensor) -> None:
        self.network, self.of_state, self.active = network, of_state, active
        self.of_actions = network.first.weight[:, network.state_size :].t()

    def of(self, actions: Tensor) -> Tensor:
        return self._value(torch.addmm(self.of_state, self._one_hots(actions), self.of_actions))

    def of_agent(self, agent: int, actions: Tensor) -> Tensor:
        own, others = self.network.blocks[agent], self._one_hots(actions)
        others[:, own] = 0.0
        first = torch.addmm(self.of_state, others, self.of_actions)
        return self._value(first.unsqueeze(-2) + self.of_actions[own])

    def _one_hots(self, actions: Tensor) -> Tensor:
        agents, choices = self.network.agents, self.network.choices
        ones = (actions[:, agents] == choices) & self.active[:, agents]
        return ones.to(self.of_state.dtype)

    def _value(self, first: Tensor) -> Tensor:
        return self.network.rest(first).squeeze(-1)
