"""Updates on stretches of episodes, for networks that remember and for TD(lambda)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.off_policy.off_policy_learner import OffPolicyLearner
from rllib_hetero.modules.memory import forward_with_gaps, initial_state, unpack
from rllib_hetero.replay import JointSequences

Network = Callable[[dict[str, Any]], Tensor]
"""From `Columns.OBS`, and `Columns.STATE_IN` if recurrent, to distribution inputs."""


class SequenceLearner(OffPolicyLearner):
    """Draws stretches of `max_seq_len` steps, of one episode each, in place of transitions.

    Stretches are an episode's steps 0 to L - 1, L to 2 L - 1, and so on. Networks are unrolled
    over a stretch from their initial state: as they act if L is no less than an episode's length,
    and without what came before the stretch otherwise.
    """

    @override(OffPolicyLearner)
    def replay_settings(self) -> dict[str, Any]:
        return {"sequence_length": self.config.max_seq_len}

    @override(OffPolicyLearner)
    def num_drawable(self) -> int:
        return self.replay.num_sequences

    @property
    @override(OffPolicyLearner)
    def draws_per_update(self) -> int:
        return self.config.sequences_per_update

    @override(OffPolicyLearner)
    def take(self, indices: np.ndarray) -> JointSequences:
        return self.replay.sequences(indices)

    def unroll(self, module_id: ModuleID, batch: JointSequences) -> Tensor:
        """The distribution inputs (B, L + 1, n_m, p) of a module's agents, with gradient."""

        def network(rows: dict[str, Any]) -> Tensor:
            return self.module[module_id].forward_train(rows)[Columns.ACTION_DIST_INPUTS]

        return self._unroll(network, module_id, batch)

    def unroll_target(self, module_id: ModuleID, batch: JointSequences) -> Tensor:
        """The same by the target network."""
        target = self.module[module_id].unwrapped().forward_target
        return self._unroll(target, module_id, batch)

    def _unroll(self, network: Network, module_id: ModuleID, batch: JointSequences) -> Tensor:
        observations = batch.observations[module_id]
        start = self.module[module_id].get_initial_state()
        if not start:
            return network({Columns.OBS: observations})
        b, _, n, _ = observations.shape
        rows = observations.transpose(1, 2).flatten(0, 1)  # (B n_m, L + 1, d)
        if self._layout.team.absences:
            active = batch.active[module_id].transpose(1, 2).flatten(0, 1)
            out = self._with_gaps(network, module_id, rows, active)
        else:
            states = {
                name: s.to(observations.device).expand(b * n, -1) for name, s in start.items()
            }
            out = network({Columns.OBS: rows, Columns.STATE_IN: states})
        return out.unflatten(0, (b, n)).transpose(1, 2)

    def _with_gaps(
        self, network: Network, module_id: ModuleID, rows: Tensor, active: Tensor
    ) -> Tensor:
        module = self.module[module_id]
        start = initial_state(module).to(rows.device)

        def forward(x: Tensor, before: Tensor) -> Tensor:
            return network({Columns.OBS: x, Columns.STATE_IN: unpack(before, module)})

        anew = start if self._layout.absent_memory == "reset" else None
        return forward_with_gaps(forward, rows, start.expand(len(rows), -1), active, anew)
