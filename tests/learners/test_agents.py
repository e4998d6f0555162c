"""Agents' hosts and their group, in this process: what they say, to whom, and what follows."""

import math

import networkx
import numpy as np
import pytest
import torch
from agent_toys import FOUR, SIZE, Loop, Toy, arrays_in, members_of, toy_config

from rllib_hetero.learners.agents.seats import Seat

CENTRES = torch.arange(SIZE) * 0.5 + 1.5  # the mean of the four members' centres


class Recording(Seat):
    """Keeps every message to and from its host."""

    log: list

    def ask(self, method, *args):
        super().ask(method, *args)
        self.log.append((self.members, method, args, self._answer))


@pytest.fixture
def recording():
    return type("Fresh", (Recording,), {"log": []})


# ---- what is private (F2A2's Table 2) ------------------------------------------------------------


def test_rewards_and_individual_parameters_stay_where_they_are(recording):
    loop = Loop(toy_config(topology="ring"), recording)
    loop.run(3)
    members = members_of(loop)
    rewards = {m: x for d in loop.deals for m, x in d.rewards.items()}
    individual = [x.y.detach().numpy() for x in members.values()]
    individual += [x.consensus.multiplier.numpy() for x in members.values()]
    ring = {m: set() for m in FOUR}
    for i, j in loop.config.new_topology().edges(1):
        ring[i].add(j)
        ring[j].add(i)
    assert {len(x) for x in ring.values()} == {2}
    seen = {method for _, method, _, _ in recording.log}
    assert seen == {"describe", "receive", "learn", "finish"}
    for (me,), method, args, answer in recording.log:
        arrays = list(arrays_in((args, answer)))
        for array in arrays:
            for secret in individual:
                assert array.shape != secret.shape or not np.array_equal(array, secret)
        if method == "receive":  # everybody's observations and actions, own rewards
            (deals,) = args
            assert all(d.rewards.keys() == {me} and d.public.rewards.size == 0 for d in deals)
            assert all(d.public.actions.keys() == FOUR.keys() for d in deals)
        if method == "learn":  # neighbours' shared parts in, the own one out
            (plan,) = args
            assert plan.mixing.copies.keys() in (ring[me], set())
            assert answer.copies.keys() == ({me} if plan.num_updates else set())
            assert not answer.policies and not plan.mixing.policies
            assert all(x.shape == (SIZE,) for x in arrays)
        if method in ("learn", "receive"):
            for m, x in rewards.items():
                if m != me:
                    assert not any(np.shares_memory(x, array) for array in arrays)
        if method == "finish":  # the driver is told numbers, and a policy for the runners
            numbers = answer.metrics[me].values()
            assert all(isinstance(x, (int, float)) for x in numbers)
    for seat in loop.group.crew.seats:
        batch = seat._host._replays.named[seat.members[0]].take(np.arange(8))
        own = list(FOUR).index(seat.members[0])
        known = ~torch.isnan(batch.agent_rewards)
        assert known[:, own].all() and known.sum() == 8


def test_policies_are_sent_to_all_only_where_they_are_needed(recording):
    loop = Loop(toy_config(topology="ring", exchanges_policies=True), recording)
    metrics = loop.run(3)[None]
    learns = [(x[0], x[2][0], x[3]) for x in recording.log if x[1] == "learn"]
    assert all(set(answer.policies) == set(m) for m, plan, answer in learns if plan.num_updates)
    assert any(plan.mixing.policies.keys() == FOUR.keys() for _, plan, _ in learns)
    # 4 peers to 3 others: once at the start, and with each of 6 rounds; and the ring's 4 edges.
    assert metrics["messages_lifetime"] == 7 * 12 + 6 * 8
    for m, member in members_of(loop).items():
        others = [x for j, x in members_of(loop).items() if j != m]
        now = sum(float(p.detach().sum()) for x in others for p in x.module.parameters())
        # What it saw in its last update: the others' policies before that.
        assert len(member.seen) == 6 and len(set(member.seen)) == 6
        assert member.seen[-1] != now


def test_without_exchange_of_policies_others_are_none():
    loop = Loop(toy_config())
    loop.run(1)
    assert all(not x.seen for x in members_of(loop).values())
    assert all(seat._host._others is None for seat in loop.group.crew.seats)


# ---- what is learnt --------------------------------------------------------------------------


def outcome(config, iterations=4):
    loop = Loop(config)
    metrics = loop.run(iterations)
    states = {m: x.get_state() for m, x in members_of(loop).items()}
    return states, {k: v for k, v in metrics[None].items() if k != "live_peers"}


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return all(map(equal, a, b))
    if isinstance(a, (np.ndarray, torch.Tensor)):
        return np.array_equal(np.asarray(a), np.asarray(b))
    return a == b


@pytest.mark.parametrize("topology", ["full", "ring"])
def test_the_number_of_hosts_does_not_matter(topology):
    settings = {"topology": topology, "interval": (2, 1), "exchanges_policies": True}
    one, *others = [outcome(toy_config(host=k, **settings)) for k in (None, 1, 2, 3)]
    assert all(equal(one, other) for other in others)


def test_members_agree_on_the_optimum_of_all():
    loop = Loop(toy_config(host=None, topology="star"))
    metrics = loop.run(60)[None]
    for member in members_of(loop).values():
        torch.testing.assert_close(member.x.detach(), CENTRES, rtol=0, atol=0.02)
    assert metrics["consensus_residual"] < 0.01
    assert metrics["multiplier_sum"] < 1e-12
    assert metrics["rounds_lifetime"] == metrics["num_updates_lifetime"] == 120


def test_nothing_shared_or_nobody_beside_is_learning_alone():
    runs = [
        outcome(toy_config(**settings))
        for settings in ({"topology": "none"}, {"interval": (math.inf, 0)})
    ]
    states = [{m: s["x"] for m, s in states.items()} for states, _ in runs]
    assert equal(*states)
    assert all(metrics["messages_lifetime"] == 0 for _, metrics in runs)


def test_a_fragment_that_one_host_lacks_is_used_by_none():
    class Losing(Seat):
        def ask(self, method, *args):
            if method == "receive" and self.members == ("c",) and len(args[0]) > 0:
                args = ([],)
            super().ask(method, *args)

    loop = Loop(toy_config(), Losing)
    metrics = loop.run(1, updates=0)
    assert metrics[None]["skipped_fragments"] == 1
    assert [len(seat._host._replays) for seat in loop.group.crew.seats] == [0] * 4


def test_traffic_is_counted():
    config = toy_config(topology="ring")
    loop = Loop(config)
    metrics = loop.run(3)[None]
    # 6 rounds of 4 edges, each with two copies of 3 float32.
    assert metrics["messages_lifetime"] == 6 * 8
    assert metrics["bytes_lifetime"] == 6 * 8 * SIZE * 4
    policy = sum(np.asarray(x).nbytes for x in members_of(loop)["a"].policy().values())
    assert metrics["bytes_with_policies_lifetime"] == 6 * 8 * (SIZE * 4 + policy)


# ---- checkpoints -----------------------------------------------------------------------------


@pytest.mark.parametrize("host", [None, 1])
def test_a_restored_group_goes_on_as_if_nothing_had_been(tmp_path, host):
    settings = {"host": host, "interval": (2, 1), "exchanges_policies": True}
    whole = Loop(toy_config(**settings))
    whole.run(3)
    assert whole.group.save(str(tmp_path), None) == ([], True)
    state = whole.group.get_state()
    assert not list(arrays_in(state))
    again = Loop(toy_config(**settings))
    again.group.set_state(state)
    assert again.group.restore(str(tmp_path)) == ([], True)
    for loop in (whole, again):
        deals = loop.runner.deal(by_reference=False) if loop is whole else deals  # noqa: F821
        loop.group.update(deals, env_steps=40, num_updates=3)
    states = [{m: x.get_state() for m, x in members_of(x).items()} for x in (whole, again)]
    assert equal(*states)


def test_a_member_without_a_file_gets_a_neighbours_shared_part(tmp_path):
    loop = Loop(toy_config())
    loop.run(3)
    loop.group.save(str(tmp_path), None)
    (tmp_path / "agents" / "b.pt").unlink()
    again = Loop(toy_config())
    again.group.set_state(loop.group.get_state())
    assert again.group.restore(str(tmp_path))[0] == ["b"]
    members = members_of(again)
    assert torch.equal(members["b"].x, members["a"].x)
    assert not torch.equal(members["b"].y, members_of(loop)["b"].y)


def test_replays_are_of_as_many_hosts(tmp_path):
    loop = Loop(toy_config(host=1))
    loop.run(3)
    loop.group.save(str(tmp_path), None)
    again = Loop(toy_config(host=2))
    again.group.set_state(loop.group.get_state())
    assert again.group.restore(str(tmp_path)) == ([], False)


def test_a_folder_of_another_machine_is_written_by_the_driver(tmp_path, monkeypatch):
    from rllib_hetero.learners.agents import files

    monkeypatch.setattr(files.os.path, "isdir", lambda path: False)
    loop = Loop(toy_config())
    loop.run(3)
    assert loop.group.save(str(tmp_path), None) == ([], False)
    assert {f.stem for f in (tmp_path / "agents").iterdir()} == FOUR.keys()
    assert {f.stem for f in (tmp_path / "policies").iterdir()} == FOUR.keys()


# ---- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"topology": networkx.Graph([("a", "b"), ("c", "d")])}, "not connected.*topology="),
        ({"topology": "circle"}, "no topology 'circle'.*topology="),
        ({"interval": (0, 0)}, r"`interval` is \(0, 0\).*interval=\(1, 0\)"),
        ({"interval": 3}, "`interval` is 3"),
        ({"mode": "admm"}, "`mode` is 'admm'.*mode="),
        ({"multipliers": "none"}, "`multipliers` is 'none'"),
        ({"beta": 0.0}, "`beta` is 0.0.*> 0"),
        ({"pull": 1.5}, r"`pull` is 1.5.*\(0, 1\]"),
        ({"extra_edges": -0.1}, "`extra_edges` is -0.1"),
        ({"peer_timeout_s": 0}, "`peer_timeout_s` is 0"),
        ({"shared": "actors"}, "`shared` is 'actors'.*shared="),
        ({"host": 5}, "`agents_per_learner` is 5, and there are only 4 agents"),
        ({"host": 0}, "`agents_per_learner` must be an integer of at least 1"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, said):
    with pytest.raises(ValueError, match=said):
        toy_config(**settings).validate()


def test_a_central_learner_is_refused():
    with pytest.raises(ValueError, match="no central learner"):
        toy_config().learners(num_learners=2).validate()


def test_steps_beyond_the_limit_of_stability_are_warned_of(caplog):
    toy_config(mode="pdhg", beta=13.0).validate()
    assert "Copies will not agree" not in caplog.text  # 0.1 * 13 < 4/3
    toy_config(mode="pdhg", beta=13.5).validate()
    assert "the product is 1.35, and must be below 4/3" in caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"shared": lambda name: False},
            r"no parameter of 'a', which has critic\.x, .*, actor\.y: ",
        ),
        ({"env_config": {"sizes": {"b": 5}}}, r"'a' and 'b', in critic\.x: \(3,\) and \(5,\)"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_any_host_starts(settings, said):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=said + r"[^\n]*config\.consensus\(shared="):
        toy_config(**settings).validate()
    assert torch.equal(torch.get_rng_state(), before)


def test_agents_fill_their_actors_in_order():
    config = toy_config(host=3)
    config.validate()
    assert config.hosts == [["a", "b", "c"], ["d"]]
    config.multi_agent(parameter_sharing={"two": ["b", "c"]}).learners(agents_per_learner=1)
    config.validate()
    assert config.hosts == [["a"], ["d"], ["two"]]


def test_tune_is_asked_for_the_actors_resources():
    config = toy_config(host=2).learners(num_cpus_per_agent_learner=2)
    request = Toy.default_resource_request(config)
    assert request.bundles == [{"CPU": 1}, {"CPU": 2}, {"CPU": 2}]
    config.learners(agents_per_learner=None)
    assert len(Toy.default_resource_request(config).bundles) == 1
