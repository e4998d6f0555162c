"""Q-learning of a team's value that is made of the values of each agent's own choice.

[1] Rashid, Samvelyan, de Witt, Farquhar, Foerster, Whiteson: QMIX: Monotonic Value Function
    Factorisation for Deep Multi-Agent Reinforcement Learning. ICML 2018.
[2] van Hasselt, Guez, Silver: Deep Reinforcement Learning with Double Q-learning. AAAI 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.functional import best_value, td_lambda_targets, td_loss
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.off_policy.gradient_step import GradientStep
from rllib_hetero.learners.off_policy.off_policy_learner import OffPolicyLearner
from rllib_hetero.learners.off_policy.sequence_learner import SequenceLearner
from rllib_hetero.reductions import sum_over_learners
from rllib_hetero.replay import JointSequences


class ValueDecompositionLearner(SequenceLearner):
    """Steps all agents and the mixer at once, along the gradient of one loss.

    What is learned is the team's return. A method may say of what else there are returns
    (`rewards`), when they end (`discounts`), and which steps count (`counted`).
    """

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        if self.get_parameters(self.module[module_id]):  # A sum has none.
            super().configure_optimizers_for_module(module_id, config)

    @override(OffPolicyLearner)
    def update_on(self, batch: JointSequences) -> Iterator[GradientStep]:
        stepping = [m for m in self._layout.groups if self.should_module_be_updated(m)]
        others = dict.fromkeys(m for m in (*stepping, CRITIC) if self._parameters_of[m])
        first = next(iter(others))
        yield GradientStep(others | {first: partial(self.loss, batch)})

    def loss(self, batch: JointSequences) -> Tensor:
        """This learner's share of [1], eq. 6: the mean of (Q_tot - y)^2, or the Huber error."""
        active = self.in_team_order(batch.active)
        chosen, following = self.agents_values(batch)
        values = self.critic.mix(chosen, batch.state[:, :-1], active[:, :-1])
        with torch.no_grad():
            next_values = self.critic.mix_target(following, batch.state[:, 1:], active[:, 1:])
        targets = td_lambda_targets(
            self.rewards(batch),
            next_values,
            self.discounts(batch, active),
            batch.filled,
            lambda_=self.config.lambda_,
        )
        counted = self.counted(batch, active)
        share = counted / sum_over_learners(counted.sum()).clamp(min=1)
        loss = (share * td_loss(values, targets, self.config.td_huber_delta)).sum()
        for m in (*self._layout.groups, CRITIC):
            self.notes.add(m, "loss", loss, over_learners="sum")
        self.notes.add(CRITIC, "mean_q", (share * values).sum(), over_learners="sum")
        return loss

    def agents_values(self, batch: JointSequences) -> tuple[Tensor, Tensor]:
        """Of each agent's own network, in team order.

        Returns:
            (B, L, n) the values of what the agents did, with gradient, and (B, L, n) those of
            what they would do in the states that follow, by the target networks. The latter is
            the choice of the online networks ([2]), or with `double_q=False` of the targets.
        """
        chosen, following = {}, {}
        for m in self._layout.groups:
            q = self.unroll(m, batch)[..., :-1]  # Without epsilon.
            chosen[m] = q[:, :-1].gather(-1, batch.actions[m].unsqueeze(-1)).squeeze(-1)
            with torch.no_grad():
                target = self.unroll_target(m, batch)[:, 1:, :, :-1]
                chosen_by = q[:, 1:] if self.config.double_q else target
                allowed = batch.masks[m][:, 1:] if m in batch.masks else None
                following[m] = best_value(target, chosen_by, allowed)
        return self.in_team_order(chosen), self.in_team_order(following)

    def rewards(self, batch: JointSequences) -> Tensor:
        """Of what the return is learned: (B, L), or (B, L, n) of each agent's own."""
        return batch.rewards

    def discounts(self, batch: JointSequences, active: Tensor) -> Tensor:
        """Gamma, or 0 where nothing follows; in the shape of `rewards`.

        Args:
            batch: The minibatch.
            active: (B, L + 1, n) bool, in team order.
        """
        return self.config.gamma * ~batch.terminated

    def counted(self, batch: JointSequences, active: Tensor) -> Tensor:
        """Whose errors are in the loss: bool, in the shape of `rewards`.

        Args:
            batch: The minibatch.
            active: (B, L + 1, n) bool, in team order.
        """
        return batch.filled


class IndependentLearner(ValueDecompositionLearner):
    """Each agent learns the return of its own rewards, as if it were alone.

    Where all are given the team's reward, of that. An agent's return ends with its life.
    """

    @override(OffPolicyLearner)
    def replay_settings(self) -> dict[str, Any]:
        return super().replay_settings() | {"individual_rewards": not self._rewards_are_shared}

    @property
    def _rewards_are_shared(self) -> bool:
        return self._layout.team.reward_scheme == "shared"

    @override(ValueDecompositionLearner)
    def rewards(self, batch: JointSequences) -> Tensor:
        if self._rewards_are_shared:
            return batch.rewards.unsqueeze(-1).expand(-1, -1, len(self._layout.team.agents))
        assert batch.agent_rewards is not None
        return batch.agent_rewards

    @override(ValueDecompositionLearner)
    def discounts(self, batch: JointSequences, active: Tensor) -> Tensor:
        return super().discounts(batch, active).unsqueeze(-1) * active[:, 1:]

    @override(ValueDecompositionLearner)
    def counted(self, batch: JointSequences, active: Tensor) -> Tensor:
        return batch.filled.unsqueeze(-1) & active[:, :-1]
