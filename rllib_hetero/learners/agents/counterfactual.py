"""Members of F2A2-COMA: on what was done lately, judged beside what might have been done.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Section 5.1.1.
[2] Foerster, Farquhar, Afouras, Nardelli, Whiteson: Counterfactual Multi-Agent Policy Gradients.
    AAAI 2018.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.functional import (
    counterfactual_advantage,
    encode_tensor,
    on_policy_actor_loss,
    on_policy_critic_loss,
    td_lambda_targets,
)
from rllib_hetero.learners.agents.member import Drawn, Member, Moment, one_hots
from rllib_hetero.learners.agents.scenes import Scene
from rllib_hetero.learners.off_policy.joint_actions import Joint
from rllib_hetero.replay import JointBatch, JointReplay


class CounterfactualMember(Member):
    """F2A2-COMA's. Its batch is all that its host keeps: the newest steps, in order."""

    def _indices(self, replay: JointReplay, seed: tuple[int, ...]) -> np.ndarray:
        return np.arange(len(replay))

    def draw(self, replay: JointReplay, seed: tuple[int, ...]) -> Drawn:
        drawn = super().draw(replay, seed)
        drawn.runs = replay.run_lengths()
        return drawn

    def learn(self, drawn: Drawn, before: Moment, then: Moment) -> None:
        batch, joint, alive = drawn.batch, self.config.joint_gradient, before.alive
        targets = self.targets(drawn, then)
        scene, actions = self.replayed(batch, before.view), batch.actions[self.module_id]

        (values,), penalty = self.critic.values_and_penalty(scene)
        loss = on_policy_critic_loss(values, targets, joint)
        if penalty is not None:
            loss = loss + self.config.attention_reg * penalty
        self.note("mean_q", self.mean_over_living(values, alive))
        self.note("td_error", self.mean_over_living(values.detach() - targets, alive))
        self.step_critic(self.mean_over_living(loss, alive))

        with torch.no_grad():
            (rows,) = self.critic.rows(scene)
        advantages = counterfactual_advantage(rows, before.logits.detach().softmax(-1), actions)
        errors = rows.gather(-1, actions.unsqueeze(-1)).squeeze(-1) - targets
        log_probs = self.dist.log_prob(before.logits, actions)
        loss = on_policy_actor_loss(log_probs, advantages, errors.square(), joint)
        entropy = self.mean_over_living(self.dist.entropy(before.logits), alive)
        self.note("entropy", entropy)
        loss = self.mean_over_living(loss, alive)
        self.step_actor(loss - self.config.entropy_coeff * entropy)

    @torch.no_grad()
    def targets(self, drawn: Drawn, then: Moment) -> Tensor:
        """(B, k) TD(lambda) of each run, by the target critic ([2], section 4).

        The next actions are those that were taken next; behind the last step of a run, where
        nobody knows them, what the policies draw.
        """
        batch, runs = drawn.batch, drawn.runs
        assert runs is not None
        ends = torch.from_numpy(runs.cumsum() - 1)
        last = torch.zeros(len(batch), dtype=torch.bool)
        last[ends] = True
        last = last.to(self.device)
        (values,) = self.critic.values(self._next_scene(batch, last, then), target=True)

        place = torch.from_numpy(np.concatenate([np.arange(n) for n in runs])).to(self.device)
        run = torch.from_numpy(np.repeat(np.arange(len(runs)), runs)).to(self.device)
        shape = (len(runs), int(runs.max()))

        def in_runs(x: Tensor) -> Tensor:
            out = torch.zeros(*shape, *x.shape[1:], dtype=x.dtype, device=x.device)
            out[run, place] = x
            return out

        targets = td_lambda_targets(
            in_runs(drawn.rewards),
            in_runs(values),
            in_runs(batch.discount[:, None] * then.alive),
            in_runs(torch.ones_like(last)),
            lambda_=self.config.lambda_,
        )
        return targets[run, place]

    def _next_scene(self, batch: JointBatch, last: Tensor, then: Moment) -> Scene:
        choices = (then.logits + self.gumbels(then.logits.shape)).argmax(-1)
        taken = batch.actions[self.module_id].roll(-1, 0)
        own = one_hots(torch.where(last[:, None], choices, taken), then.logits.shape[-1])
        others: Joint = {}
        for agent, drawn in self.drawn_of(then.others).items():
            m, k = self.layout.slot_of[agent]
            taken = encode_tensor(self.layout.distribution(m), batch.actions[m][:, k]).roll(-1, 0)
            others[agent] = torch.where(last[:, None], drawn, taken)
        return self.beside(then, own, others)
