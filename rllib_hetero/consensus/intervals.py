"""When a peer calls its neighbours: after intervals that it draws for itself (F2A2, 5.6.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class Intervals:
    """Who is due in which round, a pure function of (seed, round).

    Every peer draws the rounds to its next call from N(mean, std), rounded, at least 1. The
    paper fixes "the variance" and prints spreads of half the mean; the second number is taken as
    the standard deviation.

    Args:
        peers: Names of all peers; their order matters.
        mean: Of the intervals, at least 1; infinite: nobody ever calls.
        std: Their standard deviation, at least 0.
        seed: Of what is drawn.
    """

    def __init__(self, peers: Sequence[str], mean: float, std: float = 0.0, seed: int = 0) -> None:
        if not mean >= 1 or not 0 <= std < math.inf:
            raise ValueError(
                f"intervals need a mean of at least 1 and a finite std >= 0, got {(mean, std)}"
            )
        self._peers = list(peers)
        self._mean, self._std, self._seed = mean, std, seed
        self._at = 0
        self._restart()

    def due(self, round_: int) -> frozenset[str]:
        """The peers that call their neighbours in this round; rounds count from 1."""
        if math.isinf(self._mean):
            return frozenset()
        if self._std == 0:
            every = max(1, round(self._mean))
            return frozenset(self._peers if round_ % every == 0 else ())
        if round_ < self._at:
            self._restart()
        self._at = round_
        return frozenset(
            peer for k, peer in enumerate(self._peers) if self._walk(k, round_) == round_
        )

    def _restart(self) -> None:
        self._next = [0] * len(self._peers)
        self._draws = [np.random.default_rng((self._seed, 2, k)) for k in range(len(self._peers))]

    def _walk(self, peer: int, round_: int) -> int:
        """The peer's first call in this round or later."""
        while self._next[peer] < round_:
            drawn = self._draws[peer].normal(self._mean, self._std)
            self._next[peer] += max(1, round(drawn))
        return self._next[peer]
