"""Individual action values that are fitted to a joint one, which is maximised agent by agent.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Appendix I, Algorithm 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.functional import InTurn, mask_logits, td_loss, td_target, values_in_turn
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.off_policy.off_policy_learner import OffPolicyLearner
from rllib_hetero.replay import JointBatch
from rllib_hetero.replay.batches import PerModule
from rllib_hetero.team import AgentID


class LocalTargets(NamedTuple):
    """What the agents' values are fitted to.

    Attributes:
        actions: (B, n) int64, in team order: the actions whose values are fitted.
        in_turn: What the joint critic says of them when the agents choose one after another.
    """

    actions: Tensor
    in_turn: InTurn


class LocalTargetsLearner(OffPolicyLearner):
    """The losses of a joint critic, and of agents whose own values predict the critic's.

    A method supplies `update_on`.
    """

    @override(OffPolicyLearner)
    def build(self) -> None:
        super().build()
        self._slots = [self._layout.slot_of[a] for a in self._layout.team.agents]
        self._index_of = {a: i for i, a in enumerate(self._layout.team.agents)}

    # ---- the joint critic -------------------------------------------------------------------

    @torch.no_grad()
    def global_target(self, batch: JointBatch) -> Tensor:
        """(B,) y = r + gamma Q'(s', a_*), where a_*^i = argmax_a Q'^i(o'^i, a)."""
        best = self.greedy_actions(self.target_outputs, batch.next_observations, batch.next_masks)
        joint = self.critic.target_at(batch.next_state, self.in_team_order(batch.next_active))
        return td_target(batch.rewards, batch.discount, joint.of(best))

    def global_loss(self, batch: JointBatch) -> Tensor:
        """This learner's share of the mean of (Q(s, a) - y)^2, or of the Huber error."""
        joint = self.critic.at(batch.state, self.in_team_order(batch.active))
        values = joint.of(self.in_team_order(batch.actions))
        return self.loss_of_values(batch, values[None], self.global_target(batch))

    # ---- the agents' own values -------------------------------------------------------------

    @torch.no_grad()
    def local_targets(self, batch: JointBatch, order: Sequence[AgentID]) -> LocalTargets:
        """What the agents' values are fitted to if they come in this order.

            y^{i_m}   = Q(s, a_*^{i_1:m-1}, a^{i_m:n})
            a_*^{i_j} = argmax_a Q(s, a_*^{i_1:j-1}, a, a^{i_j+1:n})

        The actions a are those of the replay or, with `fitted_actions="greedy"`, those that the
        agents value most.
        """
        if self.config.fitted_actions == "greedy":
            actions = self.greedy_actions(self.policy_outputs, batch.observations, batch.masks)
        else:
            actions = self.in_team_order(batch.actions)
        joint = self.critic.at(batch.state, self.in_team_order(batch.active))
        masks = [batch.masks[m][:, k] if m in batch.masks else None for m, k in self._slots]
        turns = [self._index_of[a] for a in order]
        return LocalTargets(actions, values_in_turn(joint.of_agent, actions, turns, masks))

    def local_loss(self, batch: JointBatch, agent: AgentID, targets: LocalTargets) -> Tensor:
        """This learner's share of the mean of (Q^i(o^i, a^i) - y^i)^2, or of the Huber error.

        The mean is over the states in which the agent is alive; with `fitted_actions="all"` also
        over its allowed actions, each with its own target.
        """
        i, delta = self._index_of[agent], self.config.td_huber_delta
        m, k = self._slots[i]
        values = self.policy_outputs(m, batch.observations[m][:, k])[:, :-1]
        if self.config.fitted_actions == "all":
            errors = td_loss(values, targets.in_turn.rows[i], delta)
            allowed = batch.masks[m][:, k] if m in batch.masks else torch.ones_like(errors)
            errors = (errors * allowed).sum(-1) / allowed.sum(-1).clamp(min=1)
        else:
            values = values.gather(-1, targets.actions[:, i, None]).squeeze(-1)
            errors = td_loss(values, targets.in_turn.values[:, i], delta)
        loss = (errors * self.alive(batch, agent)).sum() / self.num_alive(batch, agent)
        self.notes.add(m, "loss", loss, over_learners="sum")
        return loss

    # ---- joint actions ----------------------------------------------------------------------

    def greedy_actions(
        self,
        outputs_of: Callable[[ModuleID, Tensor], Tensor],
        observations: PerModule,
        masks: PerModule,
    ) -> Tensor:
        """(B, n) the allowed actions that each agent's network values most."""
        best = {}
        for m, seen in observations.items():
            values = outputs_of(m, seen)[..., :-1]  # Without epsilon.
            best[m] = (mask_logits(values, masks[m]) if m in masks else values).argmax(-1)
        return self.in_team_order(best)

    def target_outputs(self, module_id: ModuleID, observations: Tensor) -> Tensor:
        """`policy_outputs`, by the module's target network."""
        module = self.module[module_id].unwrapped()
        return module.forward_target({Columns.OBS: observations})
