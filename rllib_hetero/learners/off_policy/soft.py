"""Maximum-entropy policies: their actions, the soft target, and the temperatures.

[1] Liu, Zhong, Hu, Fu, Fu, Chang, Yang: Maximum Entropy Heterogeneous-Agent Reinforcement
    Learning. ICLR 2024.
[2] Haarnoja et al.: Soft Actor-Critic Algorithms and Applications. 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.functional import (
    ClosedForm,
    SquashedGaussian,
    allowed_target_entropy,
    gumbel_one_hots,
    mask_logits,
    smallest,
    soft_value,
    target_entropy,
    td_target,
    temperature_loss,
)
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.off_policy.actor_critic import ActorCriticLearner, OwnAction
from rllib_hetero.learners.off_policy.gradient_step import GradientStep
from rllib_hetero.learners.off_policy.joint_actions import side_by_side
from rllib_hetero.replay import JointBatch
from rllib_hetero.team import AgentID

TEMPERATURE = "temperature"
"""Name of the optimiser of the temperatures."""


class SoftActors(ActorCriticLearner):
    """SAC's policies and target, with a temperature for each agent.

    The team's objective is the return plus sum_i alpha_i H_i. Critics and actors use the same
    alpha_i. (The authors' code fits one more alpha for the critics alone.)
    """

    @override(ActorCriticLearner)
    def build(self) -> None:
        super().build()
        self._entropies: dict[AgentID, Tensor] = {}
        layout, fraction = self._layout, self.config.target_entropy_fraction
        self._target_entropies = {
            a: target_entropy(layout.team.moves[a].flat, fraction)
            if self.config.target_entropy == "auto"
            else float(self.config.target_entropy)
            for a in layout.team.agents
        }

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        if module_id != CRITIC:
            super().configure_optimizers_for_module(module_id, config)
            return
        critic_lr = config.lr if config.critic_lr is None else config.critic_lr
        for name, params, lr in (
            ("values", self.critic.q_parameters(), critic_lr),
            (TEMPERATURE, self.critic.temperatures(), config.alpha_lr or 0.0),
        ):
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=self.make_optimizer(params),
                params=params,
                lr_or_lr_schedule=lr,
            )

    @property
    def alphas(self) -> Tensor:
        """The agents' temperatures (n,), in team order; no gradient."""
        return self.critic.log_alpha.detach().exp()

    @override(ActorCriticLearner)
    def update_on(self, batch: JointBatch) -> Iterator[GradientStep]:
        self._entropies.clear()
        yield from super().update_on(batch)
        # Of the policies that have just been updated; none where they wait, or are not trained.
        if self.config.alpha_lr and self._entropies:
            yield GradientStep({CRITIC: lambda: self.temperature_loss(batch)})
        for i, agent in enumerate(self._layout.team.agents):
            m = self._layout.module_of[agent]
            self.notes.add(m, "alpha", self.alphas[i])

    @override(ActorCriticLearner)
    def own_action(self, batch: JointBatch, agent: AgentID) -> OwnAction:
        m, k = self._layout.slot_of[agent]
        own = self.draw(m, batch.observations[m][:, k], _of(batch.masks, m, k))
        active = batch.active[m][:, k]
        assert own.entropy is not None
        return OwnAction(own.action * active[:, None], own.entropy * active)

    @override(ActorCriticLearner)
    def q_target(self, batch: JointBatch) -> Tensor:
        # y = r + gamma (min_j Q'_j(s', a') + sum_i alpha_i H_i), a' of the policies as they are;
        # with n_step > 1 the entropies of the steps between are left out, as in the authors' code.
        joint, entropies = {}, []
        for agent in self._layout.team.agents:
            m, k = self._layout.slot_of[agent]
            own = self.draw(m, batch.next_observations[m][:, k], _of(batch.next_masks, m, k))
            active = batch.next_active[m][:, k]
            assert own.entropy is not None
            joint[agent] = own.action * active[:, None]
            entropies.append(own.entropy * active)
        actions = side_by_side(joint, self._layout)
        values = smallest(self.critic.target_q_values(batch.next_state, actions))
        value = soft_value(values, torch.stack(entropies, dim=-1), self.alphas)
        return td_target(batch.rewards, batch.discount, value)

    @override(ActorCriticLearner)
    def actor_value(self, agent: AgentID, state: Tensor, actions: Tensor, own: OwnAction) -> Tensor:
        # [1]: min_j Q_j(s, a) + alpha_i H_i(o_i), H_i exact or estimated by -log pi_i(a_i | o_i).
        assert own.entropy is not None
        self._entropies[agent] = own.entropy.detach()
        alpha = self.alphas[self._layout.team.agents.index(agent)]
        return smallest(self.critic.q_values(state, actions)) + alpha * own.entropy

    def draw(self, module_id: ModuleID, observations: Tensor, mask: Tensor | None) -> OwnAction:
        """Draws actions for observations (B, d): reparameterised, or straight-through one-hots."""
        dist, inputs = self._dists[module_id], self.policy_outputs(module_id, observations)
        if isinstance(dist, SquashedGaussian):
            action, log_prob = dist.sample_with_log_prob(inputs, self.draw_normals(dist.dim))
            return OwnAction(action, -log_prob)
        if mask is not None:
            inputs = mask_logits(inputs, mask)
        gumbels = self.draw_gumbels(inputs.shape[-1])
        temperature = self.config.gumbel_temperature
        action = gumbel_one_hots(inputs, dist.choices, gumbels, temperature)
        assert isinstance(dist, ClosedForm)
        return OwnAction(action, dist.entropy(inputs))

    def temperature_loss(self, batch: JointBatch) -> Tensor:
        """This learner's share of [2], eq. 18, over the states in which each agent is alive."""
        losses = []
        for agent, entropies in self._entropies.items():
            log_alpha = self.critic.log_alpha[self._layout.team.agents.index(agent)]
            excess = temperature_loss(log_alpha, entropies, self._wanted(batch, agent))
            alive = self.alive(batch, agent)
            losses.append((excess * alive).sum() / self.num_alive(batch, agent))
        return torch.stack(losses).sum()

    def _wanted(self, batch: JointBatch, agent: AgentID) -> Tensor | float:
        m, k = self._layout.slot_of[agent]
        if m in batch.masks and self.config.target_entropy == "auto":
            choices, fraction = self._dists[m].choices, self.config.target_entropy_fraction
            return allowed_target_entropy(batch.masks[m][:, k], choices, fraction)
        return self._target_entropies[agent]


def _of(masks: dict[ModuleID, Tensor], module_id: ModuleID, k: int) -> Tensor | None:
    return masks[module_id][:, k] if module_id in masks else None
