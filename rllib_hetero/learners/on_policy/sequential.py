"""Agents updated one after another, each accounting for those before it.

This is HARL's Algorithm Template 2 (heterogeneous-agent mirror learning) on samples. An
algorithm is made of a drift (or a whole surrogate), an order, and a neighbourhood: how far one
update may go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.functional import fold, linear_surrogate
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Minibatch, Rows
from rllib_hetero.learners.notes import largest
from rllib_hetero.learners.on_policy.drift_check import CHECKED_UPDATES, DriftCheck
from rllib_hetero.learners.on_policy.on_policy_learner import (
    CORRECTION,
    POSITION,
    OnPolicyLearner,
)
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.orders import arrange
from rllib_hetero.team import AgentID


class SequentialLearner(OnPolicyLearner):
    """Updates agents in sequence, with the compound ratio of those already updated.

    Subclass it for a method of your own: `drift` says what a change of policy costs, and
    `update_agent` how one agent's objective is maximised. As it is, nothing costs anything and
    Adam takes a few steps.

    Agents that share a module are updated one after another all the same, on the one network:
    HARL's parameter-sharing ablation. The ratio that enters the correction is then that of the
    network right after the agent's own update.
    """

    @override(OnPolicyLearner)
    def build(self) -> None:
        super().build()
        self._has_drift = type(self).drift is not SequentialLearner.drift
        self._drift_check = DriftCheck(self.drift, type(self).__qualname__)

    @override(OnPolicyLearner)
    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        team = batch[CRITIC]
        team[CORRECTION] = team[Columns.VF_PREDS].new_ones(len(team[Columns.OBS]))
        num_agents = len(self._layout.team.agents)
        for position, agent in enumerate(self.update_order(batch), start=1):
            module_id = self._layout.module_of[agent]
            rows = self.agent_rows(batch, agent)
            # HARL Algorithm 4: the agent's objective holds M^{i_1:m} = correction * advantage.
            rows[CORRECTION] = team[CORRECTION]
            self._note_correction(module_id, rows[CORRECTION])
            yield from self.update_agent(module_id, rows, position)
            if self._has_drift and self._weights_seq_no <= CHECKED_UPDATES:
                self._check_drift(module_id, rows, position)
            if position < num_agents:
                self.account_for(module_id, rows, team)
        for module_id in self._layout.groups:
            self.notes.log(module_id)

    def update_order(self, batch: dict[ModuleID, Rows]) -> Iterator[AgentID]:
        """The agents in the order of this iteration's updates.

        Each is asked for after the one before it has been updated, so that an order may depend
        on what the updates did.

        Random by default: HARL's Theorem 8 (convergence to a Nash equilibrium) needs every
        permutation to have a positive probability.
        """
        agents, seed = self._layout.team.agents, (*self._iteration_seed(), 0)
        yield from arrange(agents, self.config.update_order, seed)

    def update_agent(self, module_id: ModuleID, rows: Rows, position: int) -> Iterator[Minibatch]:
        """Maximises one agent's objective within its neighbourhood (HARL Definition 11).

        By default the neighbourhood is the whole policy space, and the epochs that the settings
        ask for climb towards the maximum.

        Args:
            module_id: The agent's module.
            rows: Its columns (B, ...), with `CORRECTION`.
            position: Its place in the update order, from 1.

        Yields:
            What Adam is to step on. A step that is taken in place of that yields nothing.
        """
        yield from self._steps({module_id: rows}, key=position, position=position)

    def account_for(self, module_id: ModuleID, rows: Rows, team: Rows) -> None:
        """Folds an agent's update into what those after it are given.

        HARL Algorithm 4: M^{i_1:m+1} = (pi_new / pi_old) * M^{i_1:m}.

        Args:
            module_id: The agent's module, just updated.
            rows: Its columns (B, ...).
            team: The team's columns (B, ...), with `CORRECTION`, renewed in place.
        """
        team[CORRECTION] = fold(
            team[CORRECTION],
            self.log_probs(module_id, rows),
            rows[Columns.ACTION_LOGP],
            rows[ACTIVE].bool(),
        )

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        """HARL Definition 12, the mirror operator: the corrected advantage less the drift."""
        gain = linear_surrogate(change.ratio, change.advantages, change.correction)
        return gain - self.drift(change, config) if self._has_drift else gain

    def drift(self, change: PolicyChange, config: Any) -> Tensor:
        """What a change of policy costs (HARL Definition 10), for each sample; zero as it is.

        The expectation over the old policy's actions must never be negative, and must be zero
        with zero gradient where the policy has not changed. In the first updates, what is given
        here is checked on the batch, and a violation is warned about.

        Args:
            change: The samples under the old and the new policy.
            config: The settings of this module.

        Returns:
            The drift in the shape of `change.ratio`.
        """
        return torch.zeros_like(change.ratio)

    def _check_drift(self, module_id: ModuleID, rows: Rows, position: int) -> None:
        """Looks at the drift of the agent that has just been updated."""
        config = self.config.get_config_for_module(module_id)
        old = rows[Columns.ACTION_DIST_INPUTS].detach().clone().requires_grad_()
        for inputs, look in (
            (old, self._drift_check.at_the_old_policy),
            (self.dist_inputs(module_id, rows), self._drift_check.at_a_new_policy),
        ):
            change = self.policy_change(module_id, rows | {POSITION: position}, inputs)
            look(change, rows[ACTIVE].bool(), config)

    def _note_correction(self, module_id: ModuleID, correction: Tensor) -> None:
        mean = correction.sum() / max(self._share.total, 1)
        self.notes.add(module_id, "correction_mean", mean, over_learners="sum")
        self.notes.add(module_id, "correction_max", largest(correction), over_learners="max")
