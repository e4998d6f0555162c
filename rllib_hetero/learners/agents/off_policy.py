"""What the members that learn from a replay have in common: the joint gradient's samples.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_hetero.functional import off_policy_critic_loss, smallest, truncated_ratio
from rllib_hetero.learners.agents.member import Drawn, Member, Moment, one_hots
from rllib_hetero.learners.agents.scenes import Scene


@dataclass
class Samples:
    """What both steps of an update are made of.

    Attributes:
        before: The batch's states.
        replayed: What was done there.
        resampled: What the own policy and the others' would do, drawn anew.
        actions: (B, k) int64 the own replayed actions.
        choices: (B, k) int64 the own resampled actions.
        noise: (B, k, p) the Gumbel noise that drew them.
        rho: (B, k) truncated pi / mu of `actions`.
        kappa: (B, k) truncated mu / pi of `choices`.
        targets: (B, k) y of what was done.
    """

    before: Moment
    replayed: Scene
    resampled: Scene
    actions: Tensor
    choices: Tensor
    noise: Tensor
    rho: Tensor
    kappa: Tensor
    targets: Tensor


class OffPolicyMember(Member):
    """DDPG's, TD3's and SAC's update. They supply the target, and the actor's loss."""

    def learn(self, drawn: Drawn, before: Moment, then: Moment) -> None:
        samples = self._samples(drawn, before, then)
        self.step_critic(self.critic_loss(samples))
        if self.actor_is_due():
            self.step_actor(self.actor_loss(samples))

    @abstractmethod
    def next_value(self, then: Moment) -> Tensor:
        """(B, k) what is expected from the states that follow. No gradient is taken."""

    @abstractmethod
    def actor_loss(self, samples: Samples) -> Tensor:
        """The mean loss of the own policy, judged by the critic as it is now."""

    def actor_is_due(self) -> bool:
        """Whether this update moves the actor."""
        return True

    @torch.no_grad()
    def _samples(self, drawn: Drawn, before: Moment, then: Moment) -> Samples:
        batch = drawn.batch
        m, most = self.module_id, self.config.importance_clip
        logits, actions = before.logits.detach(), batch.actions[m]
        noise = self.gumbels(logits.shape)
        choices = (logits + noise).argmax(-1)
        others = self.drawn_of(before.others)
        # Ratios are the agent's own alone ([1], Proposition 4), each cut (Remark 4).
        rho = truncated_ratio(self.dist.log_prob(logits, actions), batch.log_probs[m], most)
        kappa = truncated_ratio(
            self.dist.log_prob(batch.dist_inputs[m], choices),
            self.dist.log_prob(logits, choices),
            most,
        )
        self.note("rho", self.mean_over_living(rho, before.alive))
        self.note("kappa", self.mean_over_living(kappa, before.alive))
        return Samples(
            before=before,
            replayed=self.replayed(batch, before.view),
            resampled=self.beside(before, one_hots(choices, logits.shape[-1]), others),
            actions=actions,
            choices=choices,
            noise=noise,
            rho=rho,
            kappa=kappa,
            targets=self.target(drawn, then, self.next_value(then)),
        )

    def critic_loss(self, samples: Samples) -> Tensor:
        """[1], Propositions 4 to 6, of the own agents' values."""
        alive, joint = samples.before.alive, self.config.joint_gradient
        values, penalty = self.critic.values_and_penalty(samples.replayed)
        needed = joint.critic_alpha1 or joint.critic_resampled != "off"
        resampled = self.critic.values(samples.resampled) if needed else torch.zeros_like(values)
        same = self.critic.same(samples.replayed, samples.resampled)
        loss = off_policy_critic_loss(
            values, resampled, samples.targets, samples.rho, samples.kappa, same, joint
        )
        errors = (values - samples.targets).detach()
        self.note("mean_q", self.mean_over_living(values.detach().mean(0), alive))
        self.note("td_error", self.mean_over_living(errors.mean(0), alive))
        if penalty is not None:
            loss = loss + self.config.attention_reg * penalty
        return self.mean_over_living(loss, alive)

    def smallest_target_value(self, scene: Scene) -> Tensor:
        """(B, k) of the target critics, the smaller one where there are two."""
        return smallest(self.critic.values(scene, target=True))
