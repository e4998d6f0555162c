"""Members of F2A2-DDPG and F2A2-TD3: policies that climb the critic's slope.

Actions are discrete. They take part as the draws of a Gumbel-softmax policy, straight through:
what the critic sees is a one-hot, what the gradient passes is the softmax.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Section 5.1.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional import deterministic_actor_loss, gumbel_one_hots
from rllib_hetero.learners.agents.member import Moment, one_hots
from rllib_hetero.learners.agents.off_policy import OffPolicyMember, Samples
from rllib_hetero.learners.off_policy.joint_actions import Joint


class DeterministicMember(OffPolicyMember):
    """F2A2-DDPG's."""

    has_target_policy = True

    @torch.no_grad()
    def next_value(self, then: Moment) -> Tensor:
        # Q'(o', a'), a' the likeliest actions of the own target policy and of the others'.
        own, others = self.target_logits(then)
        choices = {agent: one_hots(x.argmax(-1), x.shape[-1]) for agent, x in others.items()}
        scene = self.beside(then, one_hots(own.argmax(-1), own.shape[-1]), choices)
        return self.smallest_target_value(scene)

    def target_logits(self, then: Moment) -> tuple[Tensor, Joint]:
        """What the likeliest next actions are read from: own (B, k, p), and the others'."""
        return then.logits, then.others

    def actor_loss(self, samples: Samples) -> Tensor:
        # [1], Proposition 4: the slope of Q in the own action only, others' as they were drawn.
        before = samples.before
        nvec, temperature = self.dist.choices, self.config.gumbel_temperature
        own = gumbel_one_hots(before.logits, nvec, samples.noise, temperature)
        scene = samples.resampled._replace(own=own * before.alive[..., None])
        loss = deterministic_actor_loss(
            self.critic.values(scene), samples.targets, samples.kappa, self.config.joint_gradient
        )
        entropy = self.mean_over_living(self.dist.entropy(before.logits), before.alive)
        self.note("entropy", entropy)
        return self.mean_over_living(loss, before.alive) - self.config.entropy_coeff * entropy


class TwinDelayedMember(DeterministicMember):
    """F2A2-TD3's: two critics, smoothed next actions, an actor that waits.

    Every agent may have a delay and a noise of its own. ([1] says that it has, and gives no
    numbers.) There is no noise on a choice: it is on the logits that the choice is read from.
    """

    def actor_is_due(self) -> bool:
        return self.num_updates % self.config.of_member("policy_delay", self.module_id) == 0

    def target_logits(self, then: Moment) -> tuple[Tensor, Joint]:
        noise, most = (
            self.config.of_member(name, self.module_id)
            for name in ("target_noise", "target_noise_clip")
        )

        def smooth(logits: Tensor) -> Tensor:
            return logits + (noise * self.normals(logits.shape)).clamp(-most, most)

        own = smooth(then.logits)
        order = [a for a in self.layout.team.agents if a in then.others]
        return own, {agent: smooth(then.others[agent]) for agent in order}
