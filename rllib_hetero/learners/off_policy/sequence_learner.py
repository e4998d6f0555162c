"""Updates on stretches of episodes, for networks that remember and for TD(lambda)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.learners.off_policy.off_policy_learner import OffPolicyLearner
from rllib_hetero.replay import JointSequences
from rllib_hetero.team import ModuleID

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

    def unroll(self, module_id: ModuleID, observations: Tensor) -> Tensor:
        """The distribution inputs (B, T, n_m, p) of observations (B, T, n_m, d), with gradient."""

        def network(batch: dict[str, Any]) -> Tensor:
            return self.module[module_id].forward_train(batch)[Columns.ACTION_DIST_INPUTS]

        return self._unroll(network, module_id, observations)

    def unroll_target(self, module_id: ModuleID, observations: Tensor) -> Tensor:
        """The same by the target network."""
        target = self.module[module_id].unwrapped().forward_target
        return self._unroll(target, module_id, observations)

    def _unroll(self, network: Network, module_id: ModuleID, observations: Tensor) -> Tensor:
        start = self.module[module_id].get_initial_state()
        if not start:
            return network({Columns.OBS: observations})
        b, _, n, _ = observations.shape
        states = {name: s.to(observations).expand(b * n, -1) for name, s in start.items()}
        rows = observations.transpose(1, 2).flatten(0, 1)  # (B n_m, T, d)
        out = network({Columns.OBS: rows, Columns.STATE_IN: states})
        return out.unflatten(0, (b, n)).transpose(1, 2)
