"""All agents updated at once, from the same old joint policy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override

from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Minibatch, Rows
from rllib_hetero.learners.on_policy.on_policy_learner import OnPolicyLearner


class SimultaneousLearner(OnPolicyLearner):
    """Steps all modules together, each on the samples of all its agents; no correction."""

    @override(OnPolicyLearner)
    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        advantages = batch[CRITIC][Columns.ADVANTAGES]
        data = {}
        for module_id, agents in self._layout.groups.items():
            # (B, n_m, ...): a minibatch holds whole rows, all agents of the module in each.
            columns = [self.of_agent(advantages, agent) for agent in agents]
            data[module_id] = batch[module_id] | {Columns.ADVANTAGES: torch.stack(columns, 1)}
        yield from self._steps(data, key=0)
        for module_id in self._layout.groups:
            self.notes.log(module_id)
