"""Who exchanges with whom and when: pure functions of (seed, round)."""

import math

import networkx
import numpy as np
import pytest

from rllib_hetero.consensus.graphs import (
    Topology,
    among,
    largest_disagreement,
    matrix,
    metropolis,
    neighbours,
    touching,
)
from rllib_hetero.consensus.intervals import Intervals
from rllib_hetero.consensus.traffic import of_policies, of_shared_parts

PEERS = [f"p{k}" for k in range(8)]
GRAPHS = {
    "full": {"graph": "full"},
    "ring": {"graph": "ring"},
    "star": {"graph": "star"},
    "random": {"graph": "ring", "extra_edges": 0.2},
    "only extra": {"graph": "none", "extra_edges": 0.3},
    "networkx": {"graph": networkx.path_graph(PEERS)},
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_weights_are_doubly_stochastic(graph):
    topology = Topology(PEERS, **GRAPHS[graph], seed=1)
    for round_ in range(1, 6):
        w = matrix(PEERS, topology.edges(round_))
        assert (w >= 0).all()
        np.testing.assert_array_equal(w, w.T)
        np.testing.assert_allclose(w.sum(0), 1.0, rtol=0, atol=len(PEERS) * np.finfo(float).eps)


def test_in_a_complete_graph_everybody_has_the_mean():
    weights = metropolis(Topology(PEERS).edges(1))
    assert all(w == 1 / 8 for others in weights.values() for w in others.values())


def test_the_ring_is_one_ring_in_an_order_of_the_seed():
    rings = [Topology(PEERS, "ring", seed=s).edges(1) for s in (0, 0, 1)]
    assert rings[0] == rings[1] != rings[2]
    for ring in rings:
        assert len(ring) == 8
        assert all(len(others) == 2 for others in neighbours(ring).values())
        assert networkx.is_connected(networkx.Graph(ring))


def test_extra_edges_are_drawn_anew_in_each_round_and_are_so_many():
    topology = Topology(PEERS, "ring", extra_edges=0.2, seed=3)
    ring = Topology(PEERS, "ring", seed=3).edges(1)
    rounds = [topology.edges(r) for r in range(1, 6)]
    assert all(ring < edges for edges in rounds)
    assert {len(edges) for edges in rounds} == {8 + round(0.2 * 20)}
    assert len(set(rounds)) == 5
    assert rounds == [Topology(PEERS, "ring", 0.2, seed=3).edges(r) for r in range(1, 6)]
    assert Topology(PEERS, "ring", extra_edges=1.0).edges(4) == Topology(PEERS).edges(4)


def test_an_edge_needs_both_its_ends_to_answer():
    edges = among(Topology(PEERS[:4]).edges(1), {"p0", "p2", "p3"})
    assert edges == {("p0", "p2"), ("p0", "p3"), ("p2", "p3")}
    assert metropolis(edges)["p0"] == {"p2": 1 / 3, "p3": 1 / 3}


def test_one_end_that_is_due_is_enough_to_call():
    full = Topology(PEERS[:4]).edges(1)
    assert touching(full, {"p1"}) == {("p0", "p1"), ("p1", "p2"), ("p1", "p3")}
    assert touching(full, set()) == frozenset()
    assert touching(full, {"p0", "p1", "p2"}) == full
    # Each edge as often as its two ends call, less the rounds in which both do.
    intervals = Intervals(PEERS[:4], 20, 10, seed=1)
    used = sum(("p0", "p1") in touching(full, intervals.due(r)) for r in range(1, 4001))
    assert 340 < used < 440


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (networkx.Graph([("p0", "p1"), ("p2", "p3")]), "not connected"),
        (networkx.Graph([("p0", "p9")]), r"nodes \['p9'\]"),
        ("circle", "no topology 'circle'"),
        (7, "networkx graph"),
    ],
)
def test_a_graph_that_does_not_connect_the_peers_is_refused(graph, said):
    with pytest.raises(ValueError, match=said):
        Topology(PEERS[:4], graph)


def test_the_limit_of_stability_follows_from_the_graph():
    assert largest_disagreement(PEERS, Topology(PEERS).edges(1)) == pytest.approx(1.0)
    # A ring of 8 has the eigenvalues (1 + 2 cos(2 pi k / 8)) / 3.
    edges = Topology(PEERS, "ring").edges(1)
    assert largest_disagreement(PEERS, edges) == pytest.approx(4 / 3)


def test_intervals_are_drawn_by_each_peer_for_itself():
    intervals = Intervals(PEERS, 8, 4, seed=5)
    due = {r: intervals.due(r) for r in range(1, 2001)}
    for r in (1, 17, 1000, 3):  # in any order of asking
        assert intervals.due(r) == due[r] == Intervals(PEERS, 8, 4, seed=5).due(r)
    times = {p: [r for r in due if p in due[r]] for p in PEERS}
    assert len({tuple(t) for t in times.values()}) == 8
    for t in times.values():
        gaps = np.diff([0, *t])
        assert gaps.min() >= 1
        # Of 250 draws, three standard errors, and what the least of 1 adds.
        assert abs(gaps.mean() - 8) < 3 * 4 / math.sqrt(250) + 0.3
    assert Intervals(PEERS, 1, 0).due(1) == frozenset(PEERS)
    assert [bool(Intervals(PEERS, 3, 0).due(r)) for r in range(1, 7)] == [False, False, True] * 2
    assert Intervals(PEERS, math.inf, 0).due(10**9) == frozenset()


@pytest.mark.parametrize("interval", [(0, 0), (-1, 0), (2, -1), (2, math.inf), (math.nan, 0)])
def test_an_interval_of_less_than_one_update_is_refused(interval):
    with pytest.raises(ValueError, match="mean of at least 1"):
        Intervals(PEERS, *interval)


def test_every_edge_carries_both_copies():
    edges = Topology(PEERS, "star").edges(1)
    sent = of_shared_parts(edges, dict.fromkeys(PEERS, 40))
    assert (sent.messages, sent.nbytes) == (14, 14 * 40)
    sent = of_policies(["p0", "p1"], 7, dict.fromkeys(PEERS, 3))
    assert (sent.messages, sent.nbytes) == (14, 42)
