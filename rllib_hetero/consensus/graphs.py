"""Who exchanges with whom, and with which weights: pure functions of (seed, round).

[1] Xiao, Boyd, Lall: A scheme for robust distributed sensor fusion based on average consensus.
    IPSN 2005. Metropolis weights, and why they converge while the graph keeps changing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

TOPOLOGIES = ("full", "ring", "star", "none")
"""The topologies that have a name. Any other is a `networkx` graph whose nodes are the peers."""

Edge = tuple[str, str]
Edges = frozenset[Edge]


class Topology:
    """The undirected graph of each round.

    Args:
        peers: Names of all peers, at least one.
        graph: One of `TOPOLOGIES`, or an object with `edges()` and `nodes()` as `networkx.Graph`.
        extra_edges: Of the edges that the graph lacks, the share that is added in each round,
            drawn anew (F2A2, 5.6.1; all peers then make a complete graph at 1).
        seed: Of the ring's order, and of the edges that are drawn.

    Raises:
        ValueError: If the graph names peers that do not exist, or leaves some unreached, or the
            share is not in [0, 1].
    """

    def __init__(
        self, peers: Sequence[str], graph: Any = "full", extra_edges: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= extra_edges <= 1:
            raise ValueError(f"the share of extra edges must be in [0, 1], got {extra_edges!r}")
        self._seed = seed
        self._extra = extra_edges
        self._all = sorted(edge(i, j) for i, j in combinations(peers, 2))
        self._fixed = _fixed_edges(list(peers), graph, seed)
        reached = component(self._fixed, peers[0])
        if graph != "none" and not extra_edges and len(reached) < len(peers):
            raise ValueError(
                f"the graph is not connected: from {peers[0]!r} there is no way to "
                f"{sorted(set(peers) - reached)}"
            )

    def edges(self, round_: int) -> Edges:
        """The edges of a round, each as its two ends in order."""
        if not self._extra:
            return self._fixed
        missing = [e for e in self._all if e not in self._fixed]
        rng = np.random.default_rng((self._seed, 1, round_))
        drawn = rng.choice(len(missing), round(self._extra * len(missing)), replace=False)
        return self._fixed | {missing[k] for k in drawn}


def _fixed_edges(peers: list[str], graph: Any, seed: int) -> Edges:
    if isinstance(graph, str):
        if graph not in TOPOLOGIES:
            raise ValueError(f"there is no topology {graph!r}; use one of {TOPOLOGIES} or a graph")
        if graph == "full":
            return frozenset(edge(i, j) for i, j in combinations(peers, 2))
        if graph == "star":
            return frozenset(edge(peers[0], j) for j in peers[1:])
        if graph == "none":
            return frozenset()
        # F2A2, 5.6.1: the ring's order is drawn once for each seed.
        order = np.random.default_rng((seed, 0)).permutation(len(peers))
        ring = [peers[k] for k in order]
        pairs: Iterable[Any] = zip(ring, ring[1:] + ring[:1], strict=True)
    elif hasattr(graph, "edges") and hasattr(graph, "nodes"):
        unknown = set(graph.nodes()) - set(peers)
        if unknown:
            raise ValueError(
                f"the graph has the nodes {sorted(map(str, unknown))}; there are only {peers}"
            )
        pairs = graph.edges()
    else:
        raise ValueError(f"a topology is one of {TOPOLOGIES} or a networkx graph, got {graph!r}")
    return frozenset(edge(i, j) for i, j in pairs if i != j)


def edge(i: str, j: str) -> Edge:
    """The edge between two peers, the same from either end."""
    return (i, j) if i < j else (j, i)


def component(edges: Iterable[Edge], start: str) -> set[str]:
    """Who can be reached from a peer, itself included."""
    reached, ahead = {start}, [start]
    beside = neighbours(edges)
    while ahead:
        for peer in beside.get(ahead.pop(), ()):
            if peer not in reached:
                reached.add(peer)
                ahead.append(peer)
    return reached


def neighbours(edges: Iterable[Edge]) -> dict[str, list[str]]:
    """Peers with at least one edge, and those at the other ends, sorted."""
    beside: dict[str, list[str]] = {}
    for i, j in edges:
        beside.setdefault(i, []).append(j)
        beside.setdefault(j, []).append(i)
    return {i: sorted(others) for i, others in beside.items()}


def among(edges: Iterable[Edge], peers: Collection[str]) -> Edges:
    """The edges of which both ends are among the peers: one end alone never uses an edge."""
    return frozenset((i, j) for i, j in edges if i in peers and j in peers)


def touching(edges: Iterable[Edge], peers: Collection[str]) -> Edges:
    """The edges of which at least one end is among the peers: who is due calls its neighbours."""
    return frozenset((i, j) for i, j in edges if i in peers or j in peers)


def metropolis(edges: Iterable[Edge]) -> dict[str, dict[str, float]]:
    """Of each peer with an edge, the weights of the others' copies in its average.

    W_ij = 1 / (1 + max(d_i, d_j)) ([1], eq. 8, with the 1 that even rings need); what is missing
    to 1 is its own copy's. W is symmetric with rows that sum to 1; in a complete graph all
    weights are 1 / n, which is F2A2's mean (5.4c).
    """
    beside = neighbours(edges)
    degree = {i: len(others) for i, others in beside.items()}
    return {
        i: {j: 1.0 / (1 + max(degree[i], degree[j])) for j in others}
        for i, others in beside.items()
    }


def matrix(peers: Sequence[str], edges: Iterable[Edge]) -> np.ndarray:
    """W of all peers (n, n), one without an edge keeping its own copy."""
    weights, index = np.eye(len(peers)), {peer: k for k, peer in enumerate(peers)}
    for i, others in metropolis(edges).items():
        for j, weight in others.items():
            weights[index[i], index[j]] = weight
            weights[index[i], index[i]] -= weight
    return weights


def largest_disagreement(peers: Sequence[str], edges: Iterable[Edge]) -> float:
    """The largest eigenvalue l of I - W: steps of c are stable while c l < 4/3 (`multipliers`)."""
    return float(np.linalg.eigvalsh(np.eye(len(peers)) - matrix(peers, edges)).max())
