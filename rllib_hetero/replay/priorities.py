"""Rows that are drawn more often than others: proportional prioritised replay.

[1] Schaul, Quan, Antonoglou, Silver: Prioritized Experience Replay. ICLR 2016.
"""

from __future__ import annotations

import numpy as np

from rllib_hetero.replay.tables import Allocate

_EPSILON = 1e-6
"""[1], 3.3: keeps rows without an error from never being drawn again."""


def num_nodes(size: int) -> int:
    """How many numbers a `SumTree` of so many consists of."""
    return 2 << (size - 1).bit_length()


class SumTree:
    """N numbers, and their sums over ever larger blocks: from a sum to its place in log2 N steps.

    Every sum is that of its two halves at all times, to the bit: it does not depend on the order
    in which numbers were set.

    Args:
        size: N.
        allocate: Makes the memory.
    """

    def __init__(self, size: int, allocate: Allocate) -> None:
        # Node k has the children 2 k and 2 k + 1; the root is 1, the numbers are the last.
        self._nodes = allocate((num_nodes(size),), np.float64)
        self._first = len(self._nodes) // 2
        self._depth = self._first.bit_length() - 1

    @property
    def total(self) -> float:
        return float(self._nodes[1])

    @property
    def nbytes(self) -> int:
        return self._nodes.nbytes

    def get(self, places: np.ndarray) -> np.ndarray:
        """The numbers that are there."""
        return self._nodes[places + self._first]

    def set(self, places: np.ndarray, numbers: np.ndarray | float) -> None:
        """Sets numbers; of places that are named twice, the last."""
        nodes = places + self._first
        self._nodes[nodes] = numbers
        for _ in range(self._depth):
            nodes = nodes >> 1
            self._nodes[nodes] = self._nodes.take(2 * nodes) + self._nodes.take(2 * nodes + 1)

    def find(self, sums: np.ndarray) -> np.ndarray:
        """The places p for which the sum of all before p is at most `sums`, and with p above it.

        Args:
            sums: (B,) in [0, total). Rounding never leads to a place whose number is 0.
        """
        rest, node = sums.astype(np.float64), np.ones(len(sums), np.int64)
        for _ in range(self._depth):
            node = 2 * node
            left, right = self._nodes.take(node), self._nodes.take(node + 1)
            go_right = (rest >= left) & (right > 0)
            rest -= left * go_right
            node += go_right
        return node - self._first


class Priorities:
    """The priorities of rows by the place where they lie; 0 where there is no row.

    Args:
        num_places: How many places there are.
        alpha: Exponent of [1], eq. 1: how much priorities matter; 0 draws uniformly.
        allocate: Makes the memory.

    Attributes:
        tree: p^alpha of each place.
        largest: The largest p^alpha so far. New rows are given it, so that all are drawn soon.
    """

    def __init__(self, num_places: int, alpha: float, allocate: Allocate) -> None:
        self.tree = SumTree(num_places, allocate)
        self.largest = 1.0
        self._alpha = alpha

    def renew(self, places: np.ndarray) -> None:
        """New rows lie there."""
        self.tree.set(places, self.largest)

    def clear(self, places: np.ndarray) -> None:
        """The rows that lie there are gone."""
        self.tree.set(places, 0.0)

    def update(self, places: np.ndarray, errors: np.ndarray) -> None:
        """[1], 3.3: p = |TD error| + epsilon."""
        powers = (np.abs(errors.astype(np.float64)) + _EPSILON) ** self._alpha
        self.tree.set(places, powers)
        self.largest = max(self.largest, float(powers.max(initial=0.0)))


def importance_weights(
    priorities: np.ndarray, total: float, num_rows: int, beta: float
) -> np.ndarray:
    """What corrects the mean over a minibatch for how its rows were drawn.

        w = (num_rows * P)^-beta,  P = p^alpha / total                            ([1], 3.4)

    The paper divides by the largest of a minibatch; where learners share one, of all of theirs.

    Args:
        priorities: (B,) p^alpha of the rows.
        total: Sum of p^alpha over all rows of all learners.
        num_rows: How many rows these are.
        beta: How much is corrected; 1 makes the mean unbiased.

    Returns:
        (B,) float64.
    """
    return np.asarray((num_rows * priorities / total) ** -beta)
