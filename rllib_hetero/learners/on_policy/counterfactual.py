"""The update of COMA: the critic first, then all actors along what their own action was worth.

[1] Foerster, Farquhar, Afouras, Nardelli, Whiteson: Counterfactual Multi-Agent Policy Gradients.
    AAAI 2018. Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.core import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.connectors.following import FOLLOWING, Following
from rllib_hetero.connectors.fragments_to_batch import ACTIVE, CHUNKS
from rllib_hetero.connectors.team_advantages import standardize_over_learners, who_is_alive
from rllib_hetero.functional import (
    action_probabilities,
    counterfactual_advantage,
    encode_tensor,
    error_moments,
    linear_surrogate,
    mask_logits,
    masked_mean,
    moments,
    td_loss,
    variance_ratio,
)
from rllib_hetero.functional.gumbel import gumbel_noise
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Minibatch, Rows
from rllib_hetero.learners.on_policy.on_policy_learner import TOTAL, OnPolicyLearner
from rllib_hetero.learners.on_policy.over_time import actor_outputs_over_time
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.simultaneous import SimultaneousLearner
from rllib_hetero.reductions import counts_of_learners, sum_over_learners

JOINT = "joint"
"""Column: all agents' one-hots side by side, (B, A); zeros for the dead."""


class CounterfactualLearner(SimultaneousLearner):
    """Fits Q(s, a) by TD(lambda), and steps all actors along their counterfactual advantages."""

    @override(TorchLearner)
    def get_parameters(self, module: Any) -> list[Tensor]:
        """Without the target's, which no gradient moves."""
        return [p for p in module.parameters() if p.requires_grad]

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        # Its gradient at the policy that sampled is [1]'s, A grad log pi.
        return linear_surrogate(change.ratio, change.advantages)

    @override(OnPolicyLearner)
    def update_team(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        rows = batch[CRITIC]
        rows |= self._joint_actions(batch)
        rows[Columns.VF_PREDS], rows[Columns.VALUE_TARGETS], rows[ACTIVE] = self._targets(batch)
        yield from self._update_critic(rows)
        rows[Columns.ADVANTAGES] = self._advantages(batch)
        yield from self.update_actors(batch)

    # ---- the critic -------------------------------------------------------------------------

    @property
    def _critic(self) -> Any:
        return self.module[CRITIC].unwrapped()

    def _joint_actions(self, batch: dict[ModuleID, Rows]) -> Rows:
        chosen, messages = [], []
        for m, k in self._slots():
            actions, alive = batch[m][Columns.ACTIONS][:, k], batch[m][ACTIVE][:, k]
            # Whoever is dead counts as taking its first action, and the others see none.
            chosen.append(actions * alive.long())
            messages.append(encode_tensor(self._dists[m], actions) * alive[:, None])
        return {Columns.ACTIONS: torch.stack(chosen, 1), JOINT: torch.cat(messages, -1)}

    @torch.no_grad()
    def _targets(self, batch: dict[ModuleID, Rows]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, n) values by the target, TD(lambda) targets, and whose errors count, 0 or 1."""
        config, rows, critic = self.config, batch[CRITIC], self._critic
        follows: Following = rows[FOLLOWING]
        chosen, joint, living = self._next_actions(batch, follows)

        def values(state: Tensor, joint: Tensor, chosen: Tensor) -> Tensor:
            q = critic.normalizer.denormalize(critic.target_q_values(state, joint))
            return _taken(q, chosen)

        now = values(rows[Columns.OBS], rows[JOINT], rows[Columns.ACTIONS])
        after = follows.next_of(now, values(follows.state, joint, chosen))
        alive = who_is_alive(batch, self._layout)
        targets = follows.td_lambda_targets(
            now,
            after,
            follows.next_of(alive, living) > 0,
            individual=config.individual_rewards,
            gamma=config.gamma,
            lambda_=config.lambda_,
        )
        # The team's return goes on when an agent has died.
        return now, targets, alive if config.individual_rewards else torch.ones_like(alive)

    @override(OnPolicyLearner)
    def _update_critic(self, rows: Rows) -> Iterator[Minibatch]:
        critic, config = self._critic, self.config
        targets, counted = rows[Columns.VALUE_TARGETS], rows[ACTIVE]
        if config.value_norm:
            critic.normalizer.update(sum_over_learners(moments(targets, counted)))
        data = {
            Columns.OBS: rows[Columns.OBS],
            Columns.ACTIONS: rows[Columns.ACTIONS],
            JOINT: rows[JOINT],
            Columns.VALUE_TARGETS: critic.normalizer.normalize(targets),
            ACTIVE: counted,
        }
        slow, fast = zip(*critic.target_pairs(), strict=True)
        num_epochs = config.critic_num_epochs
        for minibatch in self._steps({CRITIC: data}, key=1_000_000, num_epochs=num_epochs):
            yield minibatch
            critic.steps += 1
            if int(critic.steps) % config.target_network_update_freq == 0:
                with torch.no_grad():
                    torch._foreach_lerp_(list(slow), list(fast), config.tau)
        fit = sum_over_learners(error_moments(rows[Columns.VF_PREDS], targets, counted))
        self.notes.add(CRITIC, "vf_explained_var", variance_ratio(fit))
        self.notes.log(CRITIC)

    @override(OnPolicyLearner)
    def forward(self, module_id: ModuleID, rows: Rows) -> dict[str, Tensor]:
        if module_id != CRITIC:
            return super().forward(module_id, rows)
        q = self._critic.q_values(rows[Columns.OBS], rows[JOINT])
        return {Columns.VF_PREDS: _taken(q, rows[Columns.ACTIONS])}

    @override(OnPolicyLearner)
    def _critic_loss(self, config: Any, rows: Rows, values: Tensor) -> Tensor:
        errors = td_loss(values, rows[Columns.VALUE_TARGETS], config.vf_huber_delta)
        return config.vf_loss_coeff * masked_mean(errors, rows[ACTIVE], rows[TOTAL])

    # ---- advantages -------------------------------------------------------------------------

    @torch.no_grad()
    def _advantages(self, batch: dict[ModuleID, Rows]) -> Tensor:
        """(B, n) what each agent's action was worth beside its others; [1], eq. 4."""
        rows, critic = batch[CRITIC], self._critic
        q = critic.normalizer.denormalize(critic.q_values(rows[Columns.OBS], rows[JOINT]))
        advantages = []
        for i, (m, k) in enumerate(self._slots()):
            inputs = batch[m][Columns.ACTION_DIST_INPUTS][:, k]
            own, chosen = q[:, i, : inputs.shape[-1]], rows[Columns.ACTIONS][:, i]
            advantages.append(counterfactual_advantage(own, action_probabilities(inputs), chosen))
        stacked = torch.stack(advantages, 1)
        if self.config.standardize_advantages:
            stacked = standardize_over_learners(stacked, who_is_alive(batch, self._layout))
        return stacked

    # ---- what is done next, where no row tells ----------------------------------------------

    def _next_actions(
        self, batch: dict[ModuleID, Rows], follows: Following
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the policies would do in the moments outside of the batch.

        Returns:
            (F, n) actions drawn, (F, A) their one-hots, (F, n) who lives, 0 or 1.
        """
        before, total = counts_of_learners(len(follows.row))
        rng = np.random.default_rng((*self._iteration_seed(), 4))
        outputs = {m: self._outputs_outside(m, batch, follows) for m in self._layout.groups}
        chosen, messages, living = [], [], []
        for m, k in self._slots():
            logits, alive = outputs[m][:, k], follows.active[m][:, k].float()
            if m in follows.masks:
                logits = mask_logits(logits, follows.masks[m][:, k])
            # Drawn for all learners' moments, of which each takes its own.
            noise = gumbel_noise(rng, (total, logits.shape[-1]))[before:][: len(logits)]
            drawn = (logits + torch.from_numpy(noise).to(logits.device)).argmax(-1)
            chosen.append(drawn * alive.long())
            messages.append(encode_tensor(self._dists[m], drawn) * alive[:, None])
            living.append(alive)
        return torch.stack(chosen, 1), torch.cat(messages, -1), torch.stack(living, 1)

    def _outputs_outside(
        self, module_id: ModuleID, batch: dict[ModuleID, Rows], follows: Following
    ) -> Tensor:
        """Distribution inputs (F, n_m, p) there; a policy that remembers is led to them."""
        rows, seen = batch[module_id], follows.observations[module_id]
        if Columns.STATE_IN not in rows:
            module = self.module[module_id]
            return module.forward_train({Columns.OBS: seen})[Columns.ACTION_DIST_INPUTS]
        chunks = batch[CRITIC][CHUNKS]
        chunk, place = (chunks[None] == follows.row[:, None, None]).nonzero().unbind(1)[1:]
        observations = rows[Columns.OBS][chunks[chunk].clamp(min=0)]  # (F, L, n_m, d)
        observations = torch.cat([observations, observations[:, :1]], 1)
        active = rows[ACTIVE][chunks[chunk].clamp(min=0)]
        active = torch.cat([active, active[:, :1]], 1)
        at = torch.arange(len(seen), device=seen.device)
        observations[at, place + 1] = seen
        active[at, place + 1] = follows.active[module_id].to(active.dtype)
        outputs = actor_outputs_over_time(
            self.module[module_id],
            observations,
            rows[Columns.STATE_IN][chunk],
            active,
            self._layout,
        )
        return outputs[at, place + 1]

    def _slots(self) -> list[tuple[ModuleID, int]]:
        return [self._layout.slot_of[a] for a in self._layout.team.agents]


def _taken(values: Tensor, chosen: Tensor) -> Tensor:
    """(..., n) of values (..., n, p)."""
    return values.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
