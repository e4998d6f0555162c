"""The update of actors and a critic of the joint action, as in HARL's Algorithms 6 and 7.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Section 3.2.3, Appendix G.
[2] Lowe, Wu, Tamar, Harb, Abbeel, Mordatch: Multi-Agent Actor-Critic for Mixed
    Cooperative-Competitive Environments. NIPS 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.off_policy.gradient_step import GradientStep
from rllib_hetero.learners.off_policy.joint_actions import Joint, replayed_actions, side_by_side
from rllib_hetero.learners.off_policy.off_policy_learner import OffPolicyLearner
from rllib_hetero.orders import arrange
from rllib_hetero.replay import JointBatch
from rllib_hetero.team import AgentID


class OwnAction(NamedTuple):
    """What a policy does, as a function of it.

    Attributes:
        action: (B, w) as the critic reads it.
        entropy: (B,) of the policy there, exact or an estimate; None where no method asks for it.
    """

    action: Tensor
    entropy: Tensor | None = None


class ActorCriticLearner(OffPolicyLearner):
    """Steps the critics towards their targets and, when they are due, the actors.

    A method supplies `q_target` (what the critics are fitted to), `own_action` (an agent's action
    as a function of its policy), and what it is judged beside (`improve_actors`).
    """

    @override(OffPolicyLearner)
    def update_on(self, batch: JointBatch) -> Iterator[GradientStep]:
        yield GradientStep({CRITIC: partial(self.critic_loss, batch)})
        if self.num_updates % self.config.policy_delay == 0:
            yield from self.improve_actors(batch)

    def q_target(self, batch: JointBatch) -> Tensor:
        """What the critics are fitted to, (B,). No gradient is taken."""
        raise NotImplementedError

    def own_action(self, batch: JointBatch, agent: AgentID) -> OwnAction:
        """What the agent's policy does in the batch's states."""
        raise NotImplementedError

    def improve_actors(self, batch: JointBatch) -> Iterator[GradientStep]:
        """Yields the actors' gradient steps."""
        raise NotImplementedError

    def actor_value(self, agent: AgentID, state: Tensor, actions: Tensor, own: OwnAction) -> Tensor:
        """What the agent maximises, (B,): by default the first critic's value of the joint action.

        Args:
            agent: Whose policy is to improve.
            state: (B, s).
            actions: (B, A) of all agents.
            own: Its own, which is part of them.
        """
        return self.critic.first_q_values(state, actions)

    def critic_loss(self, batch: JointBatch) -> Tensor:
        """This learner's share of the mean squared (or Huber) error, summed over the critics."""
        with torch.no_grad():
            target = self.q_target(batch)
        actions = side_by_side(replayed_actions(batch, self._layout), self._layout)
        values = self.critic.q_values(batch.state, actions)
        return self.loss_of_values(batch, values, target)

    def actor_loss(
        self, batch: JointBatch, agent: AgentID, beside: Joint, own: OwnAction
    ) -> Tensor:
        """This learner's share of -mean of `actor_value` over the states in which it is alive."""
        actions = side_by_side(beside | {agent: own.action}, self._layout)
        values = self.actor_value(agent, batch.state, actions, own)
        loss = -(values * self.alive(batch, agent)).sum() / self.num_alive(batch, agent)
        self.notes.add(self._layout.module_of[agent], "loss", loss, over_learners="sum")
        return loss


class SequentialActors(ActorCriticLearner):
    """One actor after another; each is judged beside the new actions of those before it."""

    @override(ActorCriticLearner)
    def improve_actors(self, batch: JointBatch) -> Iterator[GradientStep]:
        # [1], eq. 14: Q(s, mu_new of those before, mu_i, mu_old of those after). Others' actions
        # are their policies', not the replay's: that would be [2].
        agents = self._layout.team.agents
        first = {a: self.own_action(batch, a) for a in agents}
        joint = {a: own.action.detach() for a, own in first.items()}
        order = arrange(agents, self.config.update_order, self.seed_of_update(0))
        for agent in order:
            module_id = self._layout.module_of[agent]
            if not self.should_module_be_updated(module_id):
                continue
            for epoch in range(self.config.actor_num_epochs):
                # The first pass above still holds, unless the network has moved since.
                fresh = epoch == 0 and len(self._layout.groups[module_id]) == 1
                own = first[agent] if fresh else self.own_action(batch, agent)
                yield GradientStep({module_id: partial(self.actor_loss, batch, agent, joint, own)})
            if agent != order[-1]:  # Nobody is judged beside the last one's.
                with torch.no_grad():
                    joint[agent] = self.own_action(batch, agent).action


class SimultaneousActors(ActorCriticLearner):
    """All actors at once; each is judged beside what the others did in the replay."""

    @override(ActorCriticLearner)
    def improve_actors(self, batch: JointBatch) -> Iterator[GradientStep]:
        # [2], eq. 6: the own action is the policy's, the others' are the replay's.
        trained = [m for m in self._layout.groups if self.should_module_be_updated(m)]
        joint = replayed_actions(batch, self._layout)
        if trained:
            yield GradientStep({m: partial(self._loss_of_group, batch, m, joint) for m in trained})

    def _loss_of_group(self, batch: JointBatch, module_id: ModuleID, joint: Joint) -> Tensor:
        losses = [
            self.actor_loss(batch, a, joint, self.own_action(batch, a))
            for a in self._layout.groups[module_id]
        ]
        return torch.stack(losses).sum()
