"""Deterministic policies: their actions, their targets, and those of TD3.

Discrete actions take part as the draws of a Gumbel-softmax policy, straight through: what the
critic sees is a one-hot, what the policy's gradient passes is the softmax.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Algorithms 6 and 7.
[2] Jang, Gu, Poole: Categorical Reparameterization with Gumbel-Softmax. ICLR 2017.
"""

from __future__ import annotations

from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.functional import NoisyDeterministic, gumbel_one_hots, smallest, td_target
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.off_policy.actor_critic import ActorCriticLearner, OwnAction
from rllib_hetero.learners.off_policy.joint_actions import Joint, side_by_side
from rllib_hetero.replay import JointBatch
from rllib_hetero.team import AgentID


class DeterministicActors(ActorCriticLearner):
    """DDPG's policies and target."""

    @override(ActorCriticLearner)
    def own_action(self, batch: JointBatch, agent: AgentID) -> OwnAction:
        m, k = self._layout.slot_of[agent]
        inputs = self.policy_outputs(m, batch.observations[m][:, k])
        mask = batch.masks[m][:, k] if m in batch.masks else None
        action = self.message(m, inputs, mask, noisy=True)
        return OwnAction(action * batch.active[m][:, k, None])

    @override(ActorCriticLearner)
    def q_target(self, batch: JointBatch) -> Tensor:
        # [1], Algorithm 6: y = r + gamma Q'(s', mu'(o')).
        actions = side_by_side(self.next_actions(batch), self._layout)
        values = self.critic.target_q_values(batch.next_state, actions)
        return td_target(batch.rewards, batch.discount, smallest(values))

    def next_actions(self, batch: JointBatch) -> Joint:
        """The target policies' actions in the states that follow."""
        joint = {}
        for m, agents in self._layout.groups.items():
            seen = batch.next_observations[m]
            # As a matrix: with more axes, torch copies what is not in one piece.
            rows = {Columns.OBS: seen.flatten(0, 1)}
            inputs = self.module[m].unwrapped().forward_target(rows).unflatten(0, seen.shape[:2])
            for k, agent in enumerate(agents):
                mask = batch.next_masks[m][:, k] if m in batch.next_masks else None
                action = self.target_action(m, inputs[:, k], mask)
                joint[agent] = action * batch.next_active[m][:, k, None]
        return joint

    def target_action(self, module_id: ModuleID, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """The action (B, w) of a target policy's outputs (B, p): the greedy one."""
        return self.message(module_id, inputs, mask, noisy=False)

    def message(
        self, module_id: ModuleID, inputs: Tensor, mask: Tensor | None, *, noisy: bool
    ) -> Tensor:
        """What a policy's outputs (B, p) say to the critic, (B, w).

        Box: the action itself. Discrete: straight-through one-hots, of a draw if `noisy`.
        """
        dist = self._dists[module_id]
        if isinstance(dist, NoisyDeterministic):
            return inputs[..., : dist.dim]
        gumbels = self.draw_gumbels(inputs.shape[-1]) if noisy else None
        temperature = self.config.gumbel_temperature
        return gumbel_one_hots(inputs, dist.choices, gumbels, temperature, mask)


class TwinDelayed(DeterministicActors):
    """TD3: two critics, smoothed target actions; actors wait (`policy_delay`)."""

    @override(DeterministicActors)
    def target_action(self, module_id: ModuleID, inputs: Tensor, mask: Tensor | None) -> Tensor:
        # [1], Algorithm 7: clip(mu'(o') + clip(N(0, sigma), -c, c), low, high); sigma and c in
        # units of half the range, as in the authors' code. Where actions are discrete, a draw
        # from the target policy smooths.
        dist = self._dists[module_id]
        if not isinstance(dist, NoisyDeterministic):
            return self.message(module_id, inputs, mask, noisy=True)
        most = self.config.target_noise_clip
        noise = (self.config.target_noise * self.draw_normals(dist.dim)).clamp(-most, most)
        return dist.perturb(inputs[..., : dist.dim], noise)
