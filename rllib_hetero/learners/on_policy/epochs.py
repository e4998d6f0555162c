"""Minibatches that do not depend on how many learners share the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rllib_hetero.reductions import counts_of_learners


@dataclass(frozen=True)
class Share:
    """The part of all units (rows, or chunks of rows) that this learner holds.

    Attributes:
        offset: Index of this learner's first unit among those of all learners.
        count: Its number of units.
        total: Number of units over all learners.
    """

    offset: int
    count: int
    total: int

    @classmethod
    def of(cls, count: int) -> Share:
        """This learner's part, if it holds so many; collective."""
        before, total = counts_of_learners(count)
        return cls(before, count, total)


def epochs(
    share: Share,
    *,
    num_epochs: int,
    num_minibatches: int,
    shuffle: bool,
    seed: tuple[int, ...],
) -> Iterator[tuple[int, Any]]:
    """Yields (epoch, index) for every gradient step on this learner's units.

    Every learner draws the same permutation of *all* units and takes its own of each minibatch.
    Gradients are summed over learners, so the result is that of one learner on the whole batch;
    an index may be empty, its learner still takes part in the sums.

    Args:
        share: This learner's part.
        num_epochs: Passes over the batch.
        num_minibatches: Into how many minibatches, of nearly equal size, an epoch is cut.
        shuffle: Whether to draw a permutation for each epoch.
        seed: Seeds the permutations; the same on every learner.

    Yields:
        The epoch and an index into axis 0 of this learner's units: a slice or a LongTensor.
    """
    if num_minibatches == 1:
        for epoch in range(num_epochs):
            yield epoch, slice(None)
        return
    rng = np.random.default_rng(seed)
    for epoch in range(num_epochs):
        order = rng.permutation(share.total) if shuffle else np.arange(share.total)
        for piece in np.array_split(order, num_minibatches):
            own = piece[(piece >= share.offset) & (piece < share.offset + share.count)]
            yield epoch, torch.from_numpy(own - share.offset)
