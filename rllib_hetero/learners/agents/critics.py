"""A member's critic: values of its own agents' actions, whichever network gives them.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Table 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from rllib_hetero.functional import message_size
from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.learners.agents.scenes import Scene, View
from rllib_hetero.learners.off_policy.joint_actions import Joint, side_by_side
from rllib_hetero.modules.asked_critic import AskedQCritic
from rllib_hetero.modules.attention_critic import AttentionCritic, in_attention
from rllib_hetero.modules.input_norm import InputNorm, moments_of
from rllib_hetero.modules.own_critic import OwnQCritic


class AgentCritic(ABC):
    """Q_i of a member's k agents, each of its own rewards; of K critics and their targets.

    Args:
        module: The networks.
        layout: Agents, modules, spaces.
        module_id: Whose critic it is.

    Attributes:
        module: The networks.
        reads_others: Whether it matters what the other agents do.
    """

    reads_others: ClassVar[bool] = True

    def __init__(self, module: Any, layout: Layout, module_id: ModuleID) -> None:
        self.module = module
        self.layout = layout
        self.module_id = module_id
        self.agents = layout.groups[module_id]
        self.indices = [layout.team.agents.index(a) for a in self.agents]

    @abstractmethod
    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        """(K, B, k) values of what is done, each differentiable in that agent's own one-hots."""

    @abstractmethod
    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        """(K, B, k, p) values of all own actions, the others' being what they do."""

    def values_and_penalty(self, scene: Scene) -> tuple[Tensor, Tensor | None]:
        """`values`, and (B, k) what the loss is to keep small beside their errors, if anything."""
        return self.values(scene), None

    def look(self, view: View) -> None:  # noqa: B027
        """Once in each update: moves statistics of what is seen, if any are kept."""

    def same(self, one: Scene, other: Scene) -> Tensor:
        """(B, k) bool: whether, for the critic, the same is done in both."""
        same = (self._side_by_side(one) == self._side_by_side(other)).all(-1, keepdim=True)
        return same.expand(-1, len(self.agents))

    @staticmethod
    def serves_all(name: str) -> bool:
        """Whether a parameter is of the part that an agent does not have for itself alone."""
        return True

    def _joint(self, scene: Scene) -> Joint:
        return scene.others | dict(zip(self.agents, scene.own.unbind(1), strict=True))

    def _side_by_side(self, scene: Scene) -> Tensor:
        return side_by_side(self._joint(scene), self.layout)


class JointCritic(AgentCritic):
    """Of the state, all actions, and who is asked."""

    module: AskedQCritic

    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        joint, k = self._joint(scene), len(self.agents)
        fixed = joint | {a: joint[a].detach() for a in self.agents}
        actions = torch.cat([side_by_side(fixed | {a: joint[a]}, self.layout) for a in self.agents])
        states = self.module.asked(scene.view.state, self.indices)
        out = self._ask(states.flatten(0, 1), actions, target)
        return out.unflatten(1, (k, -1)).transpose(1, 2)

    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        layout, actions = self.layout, self._side_by_side(scene)
        widths = [
            message_size(layout.distribution(layout.module_of[a])) for a in layout.team.agents
        ]
        b, p = len(actions), widths[self.indices[0]]
        choices = torch.eye(p, device=actions.device)
        asked = []
        for i in self.indices:
            start = sum(widths[:i])
            each = actions.unsqueeze(1).repeat(1, p, 1)
            each[..., start : start + p] = choices
            asked.append(each)
        joint = torch.stack(asked)  # (k, B, p, A)
        states = self.module.asked(scene.view.state, self.indices).unsqueeze(2)
        states = states.expand(-1, -1, p, -1)
        out = self._ask(states.flatten(0, 2), joint.flatten(0, 2), target)
        return out.unflatten(1, (len(self.agents), b, p)).transpose(1, 2)

    def look(self, view: View) -> None:
        norm = self.module.norm
        if isinstance(norm, InputNorm):
            ones = torch.ones(len(view.state), device=view.state.device)
            norm.update(moments_of(view.state, ones))

    def _ask(self, states: Tensor, actions: Tensor, target: bool) -> Tensor:
        ask = self.module.target_q_values if target else self.module.q_values
        return ask(states, actions)


class AttendingCritic(AgentCritic):
    """MAAC's: each agent attends to what the others see and do."""

    module: AttentionCritic

    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        # An agent's values do not read its own action; others of its module are not to feel them.
        rows = self.rows(scene._replace(own=scene.own.detach()), target=target)
        return (rows * scene.own).sum(-1)

    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        return torch.stack([torch.stack(said.values, 1) for said in self._ask(scene, target)])

    def values_and_penalty(self, scene: Scene) -> tuple[Tensor, Tensor]:
        said = self._ask(scene, target=False)
        rows = torch.stack([torch.stack(s.values, 1) for s in said])
        return (rows * scene.own).sum(-1), torch.stack([s.magnitudes for s in said]).sum(0)

    def look(self, view: View) -> None:
        alive = self._active(view).float().unbind(-1)
        for norm, seen, a in zip(self.module.norms, self._seen(view), alive, strict=True):
            if isinstance(norm, InputNorm):
                norm.update(moments_of(seen, a))

    @staticmethod
    def serves_all(name: str) -> bool:
        return in_attention(name)

    def _ask(self, scene: Scene, target: bool) -> Any:
        joint = self._joint(scene)
        actions = [joint[a] for a in self.layout.team.agents]
        ask = self.module.target_q_values if target else self.module.q_values
        return ask(self._seen(scene.view), actions, self._active(scene.view))

    def _seen(self, view: View) -> list[Tensor]:
        """(B, d_j) of each agent in team order, without the one-hot of a shared module."""
        team, slots = self.layout.team, self.layout.slot_of
        return [
            view.observations[slots[a][0]][:, slots[a][1], : team.row_spaces[a].shape[0]]
            for a in team.agents
        ]

    def _active(self, view: View) -> Tensor:
        slots = [self.layout.slot_of[a] for a in self.layout.team.agents]
        return torch.stack([view.active[m][:, k] for m, k in slots], -1)


class OwnCritic(AgentCritic):
    """Of what the agent itself sees and does: [1]'s independent agents."""

    module: OwnQCritic
    reads_others = False

    def values(self, scene: Scene, *, target: bool = False) -> Tensor:
        return (self.rows(scene, target=target) * scene.own).sum(-1)

    def rows(self, scene: Scene, *, target: bool = False) -> Tensor:
        ask = self.module.target_q_values if target else self.module.q_values
        return ask(scene.view.observations[self.module_id])

    def same(self, one: Scene, other: Scene) -> Tensor:
        return (one.own == other.own).all(-1)


CRITICS: dict[str, type[AgentCritic]] = {
    "joint": JointCritic,
    "attention": AttendingCritic,
    "own": OwnCritic,
}
"""By the name that a config has for it."""
