"""A member's critic: values of its own agents' actions, whichever network gives them.

[1] Li, Wang, Wang, Tao, Xu, Jin, Wang, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Table 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rllib_hetero.functional import message_size
from rllib_hetero.learners.agents.scenes import Scene
from rllib_hetero.learners.off_policy.joint_actions import side_by_side
from rllib_hetero.modules.attention_critic import AttentionCritic, in_attention
from rllib_hetero.modules.input_norm import moments_of
from rllib_hetero.modules.own_critic import OwnQCritic
from rllib_hetero.modules.q_critic import TeamQCritic
from rllib_hetero.team import Layout, ModuleID


class AgentCritic(ABC):
    """Q_i of a member's k agents, each of its own rewards.

    Args:
        module: The networks.
        layout: Agents, modules, spaces.
        module_id: Whose critic it is.

    Attributes:
        module: The networks.
    """

    def __init__(self, module: Any, layout: Layout, module_id: ModuleID) -> None:
        self.module = module
        self._layout = layout
        self._module_id = module_id
        self._agents = layout.groups[module_id]
        self._indices = [layout.team.agents.index(a) for a in self._agents]

    @abstractmethod
    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        """(K, B, k) values of what is done, differentiable in the messages; of K critics."""

    @abstractmethod
    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        """(K, B, k, p) values of all own actions, the others' being what they do. Discrete only."""

    def penalty(self, scene: Scene) -> Tensor | None:
        """(B, k) what the critic's loss is to keep small beside the errors; None: nothing."""
        return None

    def look(self, scene: Scene) -> None:
        """Once in each update: statistics of what is seen, if any are kept."""

    @staticmethod
    def serves_all(name: str) -> bool:
        """Whether a parameter is of the part that an agent does not have for itself alone."""
        return True

    def _own(self, scene: Scene) -> Tensor:
        """(B, k, w) the own agents' messages."""
        return torch.stack([scene.joint[a] for a in self._agents], 1)


class JointCritic(AgentCritic):
    """A network from the state, all actions and who is asked to that agent's value.

    The agent's one-hot index tells the agents' values apart, so that every member's copy has the
    same shape. [1] does not say how they are; COMA's critic has that input, too.
    """

    module: TeamQCritic

    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        actions = side_by_side(scene.joint, self._layout)
        b, k = len(actions), len(self._agents)
        ask = self.module.target_q_values if target else self.module.q_values
        out = ask(self._asked(scene).flatten(0, 1), actions.repeat(k, 1))
        return out.unflatten(1, (k, b)).transpose(1, 2)

    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        actions, sizes = side_by_side(scene.joint, self._layout), self._sizes()
        ends = torch.tensor(sizes).cumsum(0).tolist()
        b, p = len(actions), sizes[self._indices[0]]
        choices = torch.eye(p, device=actions.device)
        asked = []
        for i in self._indices:
            own = slice(ends[i] - p, ends[i])
            each = actions.unsqueeze(1).repeat(1, p, 1)
            each[..., own] = choices
            asked.append(each)
        joint = torch.stack(asked)  # (k, B, p, A)
        states = self._asked(scene).unsqueeze(2).expand(-1, -1, p, -1)
        ask = self.module.target_q_values if target else self.module.q_values
        out = ask(states.flatten(0, 2), joint.flatten(0, 2))
        return out.unflatten(1, (len(self._agents), b, p)).transpose(1, 2)

    def _asked(self, scene: Scene) -> Tensor:
        """(k, B, s + n) the state, and whose value is asked for."""
        state, n = scene.view.state, len(self._layout.team.agents)
        who = torch.eye(n, device=state.device)[self._indices].unsqueeze(1)
        k, b = len(self._indices), len(state)
        return torch.cat([state.expand(k, b, -1), who.expand(k, b, n)], -1)

    def _sizes(self) -> list[int]:
        layout = self._layout
        return [message_size(layout.distribution(layout.module_of[a])) for a in layout.team.agents]


class AttendingCritic(AgentCritic):
    """MAAC's: each agent attends to what the others see and do."""

    module: AttentionCritic

    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        return (self.rows(scene, target=target) * self._own(scene)).sum(-1)

    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        ask = self.module.target_q_values if target else self.module.q_values
        return torch.stack([torch.stack(said.values, 1) for said in self._ask(ask, scene)])

    def penalty(self, scene: Scene) -> Tensor:
        said = self._ask(self.module.q_values, scene)
        return torch.stack([s.magnitudes for s in said]).sum(0)

    def look(self, scene: Scene) -> None:
        for norm, o, alive in zip(
            self.module.norms, self._seen(scene), self._active(scene).unbind(-1), strict=True
        ):
            if hasattr(norm, "update"):
                norm.update(moments_of(o, alive.to(o.dtype)))

    @staticmethod
    def serves_all(name: str) -> bool:
        return in_attention(name)

    def _ask(self, ask: Callable[..., Any], scene: Scene) -> Any:
        actions = [scene.joint[a] for a in self._layout.team.agents]
        return ask(self._seen(scene), actions, self._active(scene))

    def _seen(self, scene: Scene) -> list[Tensor]:
        slots = [self._layout.slot_of[a] for a in self._layout.team.agents]
        return [scene.view.observations[m][:, k] for m, k in slots]

    def _active(self, scene: Scene) -> Tensor:
        slots = [self._layout.slot_of[a] for a in self._layout.team.agents]
        return torch.stack([scene.view.active[m][:, k] for m, k in slots], -1)


class OwnCritic(AgentCritic):
    """What the agent sees and does, nothing else: independent agents."""

    module: OwnQCritic

    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        return (self.rows(scene, target=target) * self._own(scene)).sum(-1)

    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        ask = self.module.target_q_values if target else self.module.q_values
        return ask(scene.view.observations[self._module_id])


CRITICS: dict[str, type[AgentCritic]] = {
    "joint": JointCritic,
    "attention": AttendingCritic,
    "own": OwnCritic,
}
"""By the name that a config has for it."""
