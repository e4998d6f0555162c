"""How minibatches are drawn: alike on all learners, each of which takes its own share.

[1] Schaul, Quan, Antonoglou, Silver: Prioritized Experience Replay. ICLR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.reductions import counts_of_learners, max_over_learners, span_of_learner
from rllib_hetero.replay import JointReplay, importance_weights, stratified, uniform


class Drawn(NamedTuple):
    """A minibatch of B draws, and this learner's b of them.

    Attributes:
        own: (B,) bool.
        indices: (b,) in this learner's replay.
        weights: (b,) float32 of its rows in the loss; None where all weigh the same.
    """

    own: np.ndarray
    indices: np.ndarray
    weights: Tensor | None = None


class UniformDraws:
    """Draws uniformly, with replacement.

    Args:
        count: How many there are to draw from in this learner's replay.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._before, self._total = counts_of_learners(count)

    def draw(self, seed: Sequence[int], size: int) -> Drawn:
        """A minibatch of all learners together; collective."""
        drawn = uniform(seed, self._total, size)
        own = (drawn >= self._before) & (drawn < self._before + self._count)
        return Drawn(own, drawn[own] - self._before)

    def learn(self, drawn: Drawn, errors: Tensor | None) -> None:
        """Takes note of the TD errors (b,) of rows; here it needs none. Collective."""


class PriorityDraws(UniformDraws):
    """Draws in proportion to |TD error|^alpha ([1], proportional variant, Algorithm 1).

    Args:
        replay: This learner's, with priorities.
        beta: How much the loss corrects for it; in [0, 1].
    """

    def __init__(self, replay: JointReplay, beta: float) -> None:
        super().__init__(len(replay))
        self._replay = replay
        self._beta = beta

    def draw(self, seed: Sequence[int], size: int) -> Drawn:
        first, end, total = span_of_learner(self._replay.priorities.tree.total)
        sums = stratified(seed, total, size)
        own = (sums >= first) & (sums < end)
        indices, priorities = self._replay.find(sums[own] - first)
        weights = importance_weights(priorities, total, self._total, self._beta)
        # [1], 3.4: scaled by the largest, so that they only ever make steps smaller.
        largest = max_over_learners(torch.tensor(weights.max(initial=0.0)))
        return Drawn(own, indices, (torch.from_numpy(weights) / largest).float())

    def learn(self, drawn: Drawn, errors: Tensor | None) -> None:
        assert errors is not None
        self._replay.update_priorities(drawn.indices, errors.cpu().numpy())
        # New rows get the largest priority of all learners' rows.
        priorities = self._replay.priorities
        priorities.largest = float(max_over_learners(torch.tensor(priorities.largest)))
