"""All agents updated from the same old joint policy, blind to each other's updates."""

from __future__ import annotations

from collections.abc import Iterator

from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override

from rllib_hetero.learners.minibatches import Minibatch, Rows
from rllib_hetero.learners.team_learner import TeamLearner
from rllib_hetero.team import CRITIC, ModuleID


class SimultaneousLearner(TeamLearner):
    """Each module's epochs on the samples of all its agents, without a correction."""

    @override(TeamLearner)
    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        advantages = batch[CRITIC][Columns.ADVANTAGES]
        for position, (module_id, agents) in enumerate(self._layout.groups.items()):
            # (B, n_m, ...): a minibatch holds whole rows, all agents of the module in each.
            rows = dict(batch[module_id])
            rows[Columns.ADVANTAGES] = advantages[:, None].expand(-1, len(agents))
            yield from self._steps(module_id, rows, key=position)
            self._log_statistics(module_id)
