"""What peers must agree on, checked against matrices and closed forms."""

import math

import numpy as np
import pytest
import torch
from peers import Peers

from rllib_hetero.consensus.graphs import Topology, matrix

GRAPHS = {
    "full": {},
    "ring": {"graph": "ring"},
    "star": {"graph": "star"},
    "random": {"graph": "ring", "extra_edges": 0.2},
    "intervals": {"interval": (2, 1)},
}
every_graph = pytest.mark.parametrize("graph", GRAPHS)
both_kinds = pytest.mark.parametrize("multipliers", ["node", "edge"])


@every_graph
@both_kinds
def test_multipliers_sum_to_zero(graph, multipliers):
    """Invariant of (5.4c): exact averaging needs it. In float32, as networks are."""
    peers = Peers(dtype=torch.float32, mode="pdhg", multipliers=multipliers, **GRAPHS[graph])
    peers.run(100)
    assert peers.largest_multiplier() > 0.1
    # Copies differ by the same float32 from both ends; what is summed of it is float64.
    assert peers.sum_of_multipliers() < 100 * 5 * 2e-16 * peers.largest_multiplier()


@every_graph
@pytest.mark.parametrize(
    ("mode", "multipliers"), [("pdhg", "edge"), ("pdhg", "node"), ("pdhg_decoupled", "node")]
)
def test_unlike_quadratics_reach_the_optimum_of_their_sum(graph, multipliers, mode):
    peers = Peers(mode=mode, multipliers=multipliers, **GRAPHS[graph])
    peers.run(200)
    assert float((peers.copies() - peers.optimum()).abs().max()) < 1e-8
    assert peers.sum_of_multipliers() < 1e-10


def test_plain_averaging_is_biased_on_a_ring():
    """What the multipliers are for."""
    peers = Peers(mode="hard", graph="ring")
    peers.run(200)
    assert float((peers.copies() - peers.optimum()).abs().max()) > 0.05


def test_through_adam_the_decoupled_form_agrees_and_averaging_is_biased():
    decoupled, hard = (Peers(adam=True, lr=0.05, mode=m) for m in ("pdhg_decoupled", "hard"))
    for peers in (decoupled, hard):
        peers.run(200)
    assert float((decoupled.copies() - decoupled.optimum()).abs().max()) < 0.3
    assert float((hard.mean() - hard.optimum()).abs().max()) > 0.5


@pytest.mark.parametrize("interval", [(1, 0), (20, 10)])
def test_through_adam_multipliers_must_be_small_beside_the_gradients(interval):
    """Whatever a gradient's size, Adam moves a copy by lr, and a multiplier by beta * lr."""

    def from_optimum(beta):
        peers = Peers(4, adam=True, lr=0.02, curvature=1e-3, interval=interval, beta=beta)
        peers.run(400)
        return float((peers.copies() - peers.optimum()).abs().max())

    assert from_optimum(beta=0.001) < 0.2
    assert from_optimum(beta=1.0) > 1.0


def test_averaging_shrinks_disagreement_by_the_second_eigenvalue():
    peers = Peers(8, graph="ring", mode="hard", curvature=0.0, equal_start=False)
    w = matrix(peers.names, peers.topology.edges(1))
    rate = np.sort(np.abs(np.linalg.eigvalsh(w)))[-2]
    before = peers.mean()
    peers.run(50)  # until the slowest mode is all that is left
    start = peers.disagreement()
    peers.run(10)
    assert (peers.disagreement() / start) ** 0.1 == pytest.approx(rate, rel=1e-4)
    torch.testing.assert_close(peers.mean(), before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("c", [0.1, 0.3, 0.6])
def test_multipliers_shrink_disagreement_at_the_predicted_rate(c):
    """Slowest mode: sqrt(1 - c l) a round, l the smallest eigenvalue of I - W but 0."""
    peers = Peers(6, graph="ring", mode="pdhg", curvature=0.0, equal_start=False, lr=c, beta=1.0)
    w = matrix(peers.names, peers.topology.edges(1))
    slowest = 1 - np.sort(np.linalg.eigvalsh(w))[-2]
    peers.run(50)
    logs = []
    for _ in range(200):
        peers.run(1)
        logs.append(math.log(peers.disagreement()))
    # It swings: the slope of a fit over many swings.
    slope = np.polyfit(np.arange(200), logs, 1)[0]
    assert slope == pytest.approx(0.5 * math.log(1 - c * slowest), rel=0.1)


@pytest.mark.parametrize(("c", "agrees"), [(1.3, True), (1.34, False)])
def test_beyond_four_thirds_copies_run_apart(c, agrees):
    peers = Peers(3, mode="pdhg", curvature=0.0, equal_start=False, lr=c, beta=1.0)
    start = peers.disagreement()
    peers.run(300)
    assert (peers.disagreement() < start) == agrees


def test_averaging_with_all_at_every_step_is_centralised_descent():
    peers = Peers(mode="hard")
    x = peers.mean()
    for _ in range(30):
        peers.run(1)
        x = x - peers.lr * sum(peers.gradient(i, x) for i in peers.names) / 5
        torch.testing.assert_close(peers.copies(), x.expand(5, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["pdhg", "pdhg_decoupled", "hard"])
def test_equal_objectives_leave_nothing_to_agree_on(mode):
    peers = Peers(mode=mode)
    for name in peers.names:
        peers.A[name], peers.b[name] = peers.A["p0"], peers.b["p0"]
    peers.run(50)
    alone = Peers(graph="none")
    alone.A["p1"], alone.b["p1"] = alone.A["p0"], alone.b["p0"]
    alone.run(50)
    torch.testing.assert_close(peers.x["p3"], alone.x["p1"], rtol=0, atol=1e-13)
    assert peers.largest_multiplier() < 1e-13


@pytest.mark.parametrize("mode", ["pdhg", "pdhg_decoupled", "hard"])
def test_nobody_to_exchange_with_is_learning_alone_bit_for_bit(mode):
    never = Peers(mode=mode, interval=(math.inf, 0))
    nobody = Peers(mode=mode, graph="none")
    alone = {i: x.detach().clone() for i, x in nobody.x.items()}
    for _ in range(50):
        for i in alone:
            alone[i] -= nobody.lr * nobody.gradient(i, alone[i])
    for peers in (never, nobody):
        peers.run(50)
        assert all(torch.equal(peers.x[i].detach(), alone[i]) for i in alone)


def test_all_extra_edges_are_the_complete_graph_bit_for_bit():
    ring, full = Peers(graph="ring", extra_edges=1.0), Peers()
    ring.run(50)
    full.run(50)
    assert torch.equal(ring.copies(), full.copies())


@both_kinds
@pytest.mark.parametrize("graph", ["full", "ring"])
def test_a_dead_peer_does_not_move_the_survivors(graph, multipliers):
    peers = Peers(graph=graph, multipliers=multipliers, mode="pdhg")
    peers.run(30)
    peers.lose("p3")
    survivors = [i for i in peers.names if i != "p3"]
    peers.run(200)
    assert float((peers.copies() - peers.optimum(survivors)).abs().max()) < 1e-8
    assert peers.sum_of_multipliers() < 1e-10


def test_a_state_goes_on_where_it_was():
    whole, first = Peers(multipliers="edge"), Peers(multipliers="edge")
    whole.run(20)
    first.run(10)
    second = Peers(multipliers="edge")
    for i in second.names:
        second.parts[i].load(first.parts[i].vector())
        second.consensus[i].set_state(first.consensus[i].get_state())
    second.round = 10
    second.run(10)
    assert torch.equal(second.copies(), whole.copies())


def test_random_signs_tell_the_length_of_the_sum():
    peers = Peers(n=3)
    peers.run(5)
    for k, i in enumerate(peers.names):
        peers.consensus[i].multiplier += k
    total = sum(peers.consensus[i].multiplier for i in peers.names)
    products = np.sum([peers.consensus[i].projections(0, 4000) for i in peers.names], axis=0)
    # 4000 squares of spread about 1.4: within 10 %.
    assert np.mean(np.square(products)) == pytest.approx(float(total @ total), rel=0.1)


def test_individual_parameters_are_not_in_the_vector():
    parameters = {
        "critic.a": torch.nn.Parameter(torch.ones(2, 2)),
        "actor.a": torch.nn.Parameter(torch.zeros(3)),
        "critic.b": torch.nn.Parameter(torch.full((3,), 2.0)),
    }
    from rllib_hetero.consensus.shared_part import SharedPart

    shared = SharedPart(parameters, lambda name: name.startswith("critic"))
    assert shared.names == ["critic.a", "critic.b"]
    assert shared.vector().tolist() == [1.0] * 4 + [2.0] * 3
    shared.load(torch.arange(7.0))
    assert parameters["critic.b"].tolist() == [4.0, 5.0, 6.0]
    assert parameters["actor.a"].tolist() == [0.0] * 3
    assert shared.nbytes == 28


def test_topologies_take_a_single_peer():
    assert Topology(["p0"], "ring").edges(1) == frozenset()
