"""The update of MAAC: an attention critic for all agents, and soft actors that climb it at once.

[1] Iqbal and Sha: Actor-Attention-Critic for Multi-Agent Reinforcement Learning. ICML 2019.
    Sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor
from torch.nn.functional import one_hot

from rllib_hetero.functional import (
    action_probabilities,
    counterfactual_advantage,
    mask_logits,
    td_loss,
    td_target,
)
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.off_policy.gradient_step import GradientStep
from rllib_hetero.learners.off_policy.joint_actions import replayed_actions
from rllib_hetero.learners.off_policy.off_policy_learner import OffPolicyLearner
from rllib_hetero.learners.off_policy.reward_scale import RewardScale
from rllib_hetero.learners.team_learner import TeamLearner
from rllib_hetero.modules.attention_critic import picked
from rllib_hetero.modules.input_norm import moments_of
from rllib_hetero.reductions import sum_over_learners
from rllib_hetero.replay import JointBatch
from rllib_hetero.replay.batches import PerModule
from rllib_hetero.team import AgentID


@dataclass(frozen=True)
class Choice:
    """What an agent's policy has drawn in the batch's states.

    Attributes:
        logits: (B, p) before masking.
        mask: (B, p) bool, or None.
        actions: (B,) int64.
        log_probs: (B,) of them.
        message: (B, p) their one-hots; zeros where the agent is not alive.
    """

    logits: Tensor
    mask: Tensor | None
    actions: Tensor
    log_probs: Tensor
    message: Tensor


class AttentionLearner(OffPolicyLearner):
    """Every agent learns the values of its own rewards; all learn from what all see and do."""

    @override(OffPolicyLearner)
    def build(self) -> None:
        super().build()
        self._agents = self._layout.team.agents
        self._attention = {id(p) for p in self.critic.attention_parameters()}
        self._scale = RewardScale(self._layout.team)

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        if module_id != CRITIC:
            super().configure_optimizers_for_module(module_id, config)
            return
        config, params = self.config, self.get_parameters(self.module[CRITIC])
        self.register_optimizer(
            module_id=CRITIC,
            optimizer=torch.optim.Adam(
                params,
                eps=config.adam_epsilon,
                weight_decay=config.critic_weight_decay,
                fused=True,
            ),
            params=params,
            lr_or_lr_schedule=config.lr if config.critic_lr is None else config.critic_lr,
        )

    @override(OffPolicyLearner)
    def replay_settings(self) -> dict[str, Any]:
        own = self._layout.team.reward_scheme == "individual"
        return super().replay_settings() | {"individual_rewards": own}

    @override(OffPolicyLearner)
    def new_draws(self) -> Any:
        if self.config.standardize_rewards:
            # Nothing is added to the replay before the next iteration.
            moments = torch.from_numpy(self.replay.reward_moments()).to(self._device)
            self._scale.measure(sum_over_learners(moments))
        return super().new_draws()

    @override(OffPolicyLearner)
    def update_on(self, batch: JointBatch) -> Iterator[GradientStep]:
        self._normalize_inputs(batch)
        yield GradientStep({CRITIC: partial(self.critic_loss, batch)})
        trained = [m for m in self._layout.groups if self.should_module_be_updated(m)]
        if trained:
            choices = self._choices(
                self.policy_outputs, batch.observations, batch.masks, batch.active
            )
            values = self._judge(batch, choices)
            yield GradientStep({m: partial(self.actor_loss, batch, m, choices, values)
                                for m in trained})  # fmt: skip

    # ---- the critic -------------------------------------------------------------------------

    def critic_loss(self, batch: JointBatch) -> Tensor:
        """This learner's share of [1], eq. 7: the agents' mean squared errors, summed.

        With the penalty on large attention logits, which is in the authors' code alone.
        """
        target = self.q_target(batch)
        seen, active = self._seen(batch.observations), self.in_team_order(batch.active)
        joint = replayed_actions(batch, self._layout)
        actions = [joint[a] for a in self._agents]
        (said,) = self.critic.q_values(seen, actions, active)
        # A dead agent's action is all zeros, and so is its value here: it has no share.
        values = torch.stack(picked(said.values, actions), -1)
        alive = active.float()
        share = alive / sum_over_learners(alive.sum(0)).clamp(min=1.0)
        errors = td_loss(values, target, self.config.td_huber_delta)
        loss = (batch.weights[:, None] * share * errors).sum()
        if self.config.replay_buffer_config["alpha"] is not None:
            gaps = ((values.detach() - target).abs() * alive).sum(-1)
            self._td_errors = gaps / alive.sum(-1).clamp(min=1.0)
        magnitude = (share * said.magnitudes).sum()
        for name, value in (
            ("loss", loss),
            ("mean_q", (share * values).sum() / len(self._agents)),
            ("attention_magnitude", magnitude / len(self._agents)),
        ):
            self.notes.add(CRITIC, name, value, over_learners="sum")
        return loss + self.config.attention_reg * magnitude

    @torch.no_grad()
    def q_target(self, batch: JointBatch) -> Tensor:
        """(B, n) what the agents' values are fitted to; [1], eq. 7.

            y_i = r_i + gamma (Q'_i(o', a') - alpha log pi'_i(a'_i | o'_i)),   a' of the targets

        An agent's return ends with its life. (In the authors' code log pi' is not discounted.)
        """
        after = self._choices(
            self._target_outputs, batch.next_observations, batch.next_masks, batch.next_active
        )
        active = self.in_team_order(batch.next_active)
        messages = [after[a].message for a in self._agents]
        (said,) = self.critic.target_q_values(self._seen(batch.next_observations), messages, active)
        log_probs = torch.stack([after[a].log_probs for a in self._agents], -1)
        values = torch.stack(picked(said.values, messages), -1) - self.config.alpha * log_probs
        rewards = self._scale.of(batch)
        if self.config.standardize_rewards:
            rewards = self._scale.standardize(rewards)
        return td_target(rewards, batch.discount[:, None] * active, values)

    # ---- the actors -------------------------------------------------------------------------

    def actor_loss(
        self,
        batch: JointBatch,
        module_id: ModuleID,
        choices: dict[AgentID, Choice],
        values: dict[AgentID, Tensor],
    ) -> Tensor:
        """This learner's share of [1], eq. 8, descended, over the states in which each is alive.

            log pi_i(a_i | o_i) sg(alpha log pi_i(a_i | o_i) - A_i(o, a))
            A_i = Q_i(o, a) - sum_b pi_i(b | o_i) Q_i(o, (b, a_-i))

        All actions are the current policies'. With the penalty on large logits, which is in the
        authors' code alone.
        """
        losses = []
        for agent in self._layout.groups[module_id]:
            own = choices[agent]
            probabilities = action_probabilities(own.logits.detach(), own.mask)
            advantages = counterfactual_advantage(values[agent], probabilities, own.actions)
            cost = self.config.alpha * own.log_probs.detach() - advantages
            allowed = torch.ones_like(own.logits) if own.mask is None else own.mask.float()
            logits = own.logits if own.mask is None else own.logits.masked_fill(~own.mask, 0.0)
            size = logits.square().sum(-1) / allowed.sum(-1).clamp(min=1.0)
            errors = own.log_probs * cost + self.config.logit_reg * size
            share = self.alive(batch, agent) / self.num_alive(batch, agent)
            losses.append((errors * share).sum())
            entropy = -(share * own.log_probs).sum()
            self.notes.add(module_id, "entropy", entropy, over_learners="sum")
        loss = torch.stack(losses).sum()
        self.notes.add(module_id, "loss", loss, over_learners="sum")
        return loss

    @torch.no_grad()
    def _judge(self, batch: JointBatch, choices: dict[AgentID, Choice]) -> dict[AgentID, Tensor]:
        """(B, p_i) each agent's values of its own actions, beside what the others have drawn."""
        messages = [choices[a].message for a in self._agents]
        active = self.in_team_order(batch.active)
        (said,) = self.critic.q_values(self._seen(batch.observations), messages, active)
        return dict(zip(self._agents, said.values, strict=True))

    def _choices(
        self, outputs_of: Any, observations: PerModule, masks: PerModule, active: PerModule
    ) -> dict[AgentID, Choice]:
        """What all agents' policies draw, in the team's order."""
        outputs = {}
        for m, seen in observations.items():
            # As a matrix: with more axes, torch copies what is not in one piece.
            outputs[m] = outputs_of(m, seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        choices = {}
        for agent in self._agents:
            m, k = self._layout.slot_of[agent]
            logits, mask = outputs[m][:, k], masks[m][:, k] if m in masks else None
            allowed = logits if mask is None else mask_logits(logits, mask)
            drawn = (allowed.detach() + self.draw_gumbels(logits.shape[-1])).argmax(-1)
            message = one_hot(drawn, logits.shape[-1]) * active[m][:, k, None]
            log_probs = self._dists[m].log_prob(allowed, drawn)
            choices[agent] = Choice(logits, mask, drawn, log_probs, message.to(logits.dtype))
        return choices

    def _target_outputs(self, module_id: ModuleID, observations: Tensor) -> Tensor:
        return self.module[module_id].unwrapped().forward_target({Columns.OBS: observations})

    # ---- inputs and gradients ---------------------------------------------------------------

    def _seen(self, observations: PerModule) -> list[Tensor]:
        """(B, d_i) of each agent in team order, without the one-hot of a shared module."""
        out = []
        for agent in self._agents:
            m, k = self._layout.slot_of[agent]
            out.append(observations[m][:, k, : self._layout.team.row_spaces[agent].shape[0]])
        return out

    def _normalize_inputs(self, batch: JointBatch) -> None:
        """Moves the running statistics of what is seen, of all learners' part of the minibatch."""
        pairs = []
        for m in self._layout.groups:
            norm = self.module[m].unwrapped().input_norm
            if norm is not None:
                rows, alive = batch.observations[m].flatten(0, 1), batch.active[m].flatten()
                pairs.append((norm, moments_of(rows, alive.float())))
        if self.critic.normalizes:
            seen = self._seen(batch.observations)
            for agent, norm, x in zip(self._agents, self.critic.norms, seen, strict=True):
                pairs.append((norm, moments_of(x, self.alive(batch, agent))))
        if pairs:
            sums = sum_over_learners(torch.cat([moments for _, moments in pairs]))
            parts = sums.split([len(moments) for _, moments in pairs])
            for (norm, _), moments in zip(pairs, parts, strict=True):
                norm.update(moments)

    @override(TeamLearner)
    def postprocess_gradients_for_module(
        self, *, module_id: ModuleID, config: Any = None, module_gradients_dict: dict
    ) -> dict:
        if module_id == CRITIC and self.config.scale_attention_gradients:
            # All n losses reach the attention, one of them each head.
            shared = [p.grad for p in module_gradients_dict if id(p) in self._attention]
            torch._foreach_div_(shared, float(len(self._agents)))
        return super().postprocess_gradients_for_module(
            module_id=module_id, config=config, module_gradients_dict=module_gradients_dict
        )

    @override(TeamLearner)
    def gradient_limit(self, module_id: ModuleID, config: Any) -> float | None:
        if module_id != CRITIC:
            return config.grad_clip
        most = config.critic_grad_clip
        return None if most is None else most * len(self._agents)
