"""Members of F2A2-SAC and F2A2-ISAC: stochastic policies that are paid for their entropy.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Section 5.1.2,
    Appendix E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional import counterfactual_advantage, soft_actor_loss
from rllib_hetero.learners.agents.member import Moment, one_hots
from rllib_hetero.learners.agents.off_policy import OffPolicyMember, Samples
from rllib_hetero.learners.agents.scenes import Scene


class SoftMember(OffPolicyMember):
    """The update of both; what tells them apart is the critic, and what is shared."""

    @torch.no_grad()
    def next_value(self, then: Moment) -> Tensor:
        # min_j Q'_j(o', a') - tau log pi(a'_i | o'_i), all a' drawn. The paper prints the minimum
        # and the logarithm's sign of a reward in the middle of costs: it is a reward's here, too.
        choices = (then.logits + self.gumbels(then.logits.shape)).argmax(-1)
        others = self.drawn_of(then.others)
        scene = self.beside(then, one_hots(choices, then.logits.shape[-1]), others)
        log_probs = self.dist.log_prob(then.logits, choices)
        return self.smallest_target_value(scene) - self.config.temperature * log_probs

    def actor_loss(self, samples: Samples) -> Tensor:
        before, joint = samples.before, self.config.joint_gradient
        logits, alive = before.logits, before.alive
        log_probs = self.dist.log_prob(logits, samples.actions)
        resampled_log_probs = self.dist.log_prob(logits, samples.choices)
        resampled, rows = self._advantages(
            samples.resampled, before, samples.choices, resampled_log_probs
        )
        replayed = torch.zeros_like(resampled)
        if joint.actor_replayed:
            replayed, _ = self._advantages(samples.replayed, before, samples.actions, log_probs)
        chosen = samples.choices.unsqueeze(-1).expand(len(rows), *samples.choices.shape, 1)
        errors = rows.gather(-1, chosen).squeeze(-1) - samples.targets
        loss = soft_actor_loss(
            log_probs,
            replayed,
            samples.rho,
            resampled_log_probs,
            resampled,
            samples.kappa,
            errors.square().sum(0),
            joint,
        )
        self.note("entropy", self.mean_over_living(self.dist.entropy(logits), alive))
        return self.mean_over_living(loss, alive)

    @torch.no_grad()
    def _advantages(
        self, scene: Scene, before: Moment, choices: Tensor, log_probs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A = Q_1(o, a) - tau log pi(a_i | o_i) - sum_b pi(b | o_i) Q_1(o, (b, a_-i)).

        Returns:
            (B, k) A, and (K, B, k, p) the critics' values of all own actions.
        """
        rows = self.critic.rows(scene)
        gains = counterfactual_advantage(rows[0], before.logits.softmax(-1), choices)
        return gains - self.config.temperature * log_probs, rows
