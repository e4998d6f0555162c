"""Minibatches that do not depend on how many learners share the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rllib_hetero.team import ModuleID

Rows = dict[str, Any]


@dataclass(frozen=True)
class Minibatch:
    """What RLlib's `Learner.update` loops over: the rows of one module for one gradient step."""

    module_id: ModuleID
    rows: Rows

    @property
    def policy_batches(self) -> dict[ModuleID, Rows]:
        return {self.module_id: self.rows}


@dataclass(frozen=True)
class Share:
    """The part of the whole batch that this learner holds.

    Attributes:
        offset: Index of this learner's first row in the whole batch.
        count: Its number of rows.
        total: Number of rows of the whole batch, over all learners.
    """

    offset: int
    count: int
    total: int


def epochs(
    share: Share,
    *,
    num_epochs: int,
    minibatch_size: int | None,
    shuffle: bool,
    seed: tuple[int, ...],
) -> Iterator[tuple[int, Any]]:
    """Yields (epoch, index) for every gradient step on this learner's rows.

    Every learner draws the same permutation of the *whole* batch and takes its own rows of each
    minibatch. Gradients are summed over learners, so the result is that of one learner on the
    whole batch; an index may be empty, its learner still takes part in the sums.

    Args:
        share: This learner's part.
        num_epochs: Passes over the batch.
        minibatch_size: Rows per minibatch over all learners; None is the whole batch. Rows that
            do not fill the last minibatch are spread over all of them, none is dropped.
        shuffle: Whether to draw a permutation for each epoch.
        seed: Seeds the permutations; the same on every learner.

    Yields:
        The epoch and an index into axis 0 of this learner's rows: a slice or a LongTensor.
    """
    if minibatch_size is None or minibatch_size >= share.total:
        for epoch in range(num_epochs):
            yield epoch, slice(None)
        return
    rng = np.random.default_rng(seed)
    pieces = -(-share.total // minibatch_size)
    for epoch in range(num_epochs):
        order = rng.permutation(share.total) if shuffle else np.arange(share.total)
        for piece in np.array_split(order, pieces):
            own = piece[(piece >= share.offset) & (piece < share.offset + share.count)]
            yield epoch, torch.from_numpy(own - share.offset)
