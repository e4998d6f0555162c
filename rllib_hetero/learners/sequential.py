"""Agents updated one after another, each accounting for those before it.

This is HARL's Algorithm Template 2 (heterogeneous-agent mirror learning) on samples. What an
algorithm supplies is its surrogate.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override

from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.functional import fold
from rllib_hetero.learners.minibatches import Minibatch, Rows
from rllib_hetero.learners.team_learner import CORRECTION, TeamLearner, largest, permutation
from rllib_hetero.team import CRITIC, AgentID, ModuleID


class SequentialLearner(TeamLearner):
    """Updates agents in sequence, with the compound ratio of those already updated.

    Agents that share a module are updated one after another all the same, on the one network:
    HARL's parameter-sharing ablation. The ratio that enters the correction is then that of the
    network right after the agent's own update.
    """

    @override(TeamLearner)
    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        correction = torch.ones_like(batch[CRITIC][Columns.ADVANTAGES])
        order = self.update_order()
        for position, agent in enumerate(order):
            module_id = self._layout.module_of[agent]
            rows = self.agent_rows(batch, agent)
            rows[CORRECTION] = correction
            self._note_correction(module_id, correction)
            # HARL Algorithm 4: the agent's objective holds M^{i_1:m} = correction * advantage.
            yield from self._steps(module_id, rows, key=position)
            if position == len(order) - 1:
                break
            # HARL Algorithm 4: M^{i_1:m+1} = (pi_new / pi_old) * M^{i_1:m}, unless m = n.
            correction = fold(
                correction,
                self.log_probs(module_id, rows),
                rows[Columns.ACTION_LOGP],
                rows[ACTIVE].bool(),
            )
        for module_id in self._layout.groups:
            self._log_statistics(module_id)

    def update_order(self) -> list[AgentID]:
        """The agents in the order of this iteration's updates.

        Random by default: HARL's Theorem 8 (convergence to a Nash equilibrium) needs every
        permutation to have a positive probability.
        """
        order = self.config.update_order
        if order == "random":
            return permutation(self._layout.team.agents, (*self._iteration_seed(), 0))
        return list(self._layout.team.agents if order == "fixed" else order)

    def _note_correction(self, module_id: ModuleID, correction: torch.Tensor) -> None:
        mean = correction.sum() / max(self._share.total, 1)
        self._note(module_id, "correction_mean", mean, over_learners="sum")
        self._note(module_id, "correction_max", largest(correction), over_learners="max")
