"""What learners read of posted fragments, without Ray: references are names of a store."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import toys
from ray.rllib.utils.actor_manager import ResultOrError

from rllib_hetero import HAPPOConfig
from rllib_hetero.algorithms.receiving import received
from rllib_hetero.algorithms.rollouts_ahead import Rollout
from rllib_hetero.learners import receiving
from rllib_hetero.learners.receiving import ReceivingLearner
from rllib_hetero.runners.fragment import shard
from rllib_hetero.runners.posted import PostedFragment

CONFIG = toys.small_config(HAPPOConfig, env_config={"state": True, "length": 3})


class Store:
    """Fragments by name; counts how often each is read."""

    def __init__(self, count):
        runner = toys.make_runner(CONFIG)
        self.fragments = {f"f{i}": runner.sample()[0] for i in range(count)}
        for fragment in self.fragments.values():
            fragment.valid[:2, 0] = False  # A step is not one of every environment.
        self.reads = []

    def fetch_all(self, names, timeout_s=None):
        self.reads += names
        return [self.fragments.get(name) for name in names]

    def posted(self):
        return [PostedFragment(k, f.steps_by_env, f.problem) for k, f in self.fragments.items()]


class Reader(ReceivingLearner):
    """A learner that does no more than receive."""

    def __init__(self, index):
        self._learner_index, self.config = index, CONFIG

    def compute_loss_for_module(self, **kwargs):
        raise NotImplementedError


class Group:
    """Several of them."""

    def __init__(self, count):
        self.learners = [Reader(i) for i in range(count)]

    def __len__(self):
        return len(self.learners)

    def foreach_learner(self, call):
        return [ResultOrError(result=call(learner)) for learner in self.learners]


@pytest.fixture
def store(monkeypatch):
    store = Store(3)
    monkeypatch.setattr(receiving, "fetch_all", store.fetch_all)
    return store


def rollouts_of(store):
    return [Rollout([posted], posted.reference, {}, None) for posted in store.posted()]


def assert_same(one, two):
    assert one.source == two.source and one.first_env == two.first_env
    for name in ("valid", "rewards", "terminated", "truncated", "state", "continues"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    for m, x in one.observations.items():
        assert np.array_equal(x, two.observations[m]), m


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_what_was_posted_is_shared_out_as_what_it_stands_for(store, count):
    posted = shard(store.posted(), count)
    shares = shard(list(store.fragments.values()), count)
    assert any(len(share) == 0 for share in shares) == (count == 12)
    for theirs, ours in zip(shares, posted, strict=True):
        for fragment, p in zip(theirs, ours, strict=True):
            assert_same(fragment, p.within(store.fragments[p.reference]))


def test_a_range_of_a_range():
    posted = PostedFragment("f", np.arange(6), None).select(range(1, 6)).select(range(2, 4))
    assert (posted.first_env, posted.num_envs, posted.steps_by_env.tolist()) == (3, 2, [3, 4])


def test_an_update_on_what_was_received_is_one_on_the_fragments(store):
    ours, theirs = toys.make_learner(CONFIG), toys.make_learner(CONFIG)
    before = toys.all_weights(ours)
    assert ours.receive([store.posted()]) == []
    toys.update(ours, store.posted())
    toys.update(theirs, list(store.fragments.values()))
    one, two = toys.all_weights(ours), toys.all_weights(theirs)
    assert all(np.array_equal(x, two[k]) for k, x in one.items())
    assert any(not np.array_equal(x, before[k]) for k, x in one.items())
    assert not ours._received  # Nothing is kept that is not needed.


def test_all_go_on_without_what_one_has_lost(store, caplog):
    """The second fragment is read by both learners, and found by neither."""
    del store.fragments["f1"]
    posted = [*store.posted()[:1], PostedFragment("f1", np.full(3, 8), None), *store.posted()[1:]]
    group = Group(2)
    rollouts = [Rollout([p], p.reference, {}, None) for p in posted]
    with caplog.at_level(logging.WARNING):
        left = received(rollouts, group)
    assert [rollout.metrics for rollout in left] == ["f0", "f2"]
    assert "1 of 3 fragments are lost" in caplog.text
    # Shared out anew, and what is there is not read twice.
    assert sorted(store.reads) == ["f0", "f1", "f1", "f2"]
    data = SimpleNamespace(episodes=[])
    for learner, share in zip(group.learners, shard(store.posted(), 2), strict=True):
        data.episodes = share
        (fragment,) = learner.fragments_of(data)
        assert_same(fragment, share[0].within(store.fragments[share[0].reference]))


def test_a_learner_without_environments_reads_one_for_the_shapes_of_no_rows(store):
    group = Group(12)
    assert len(received(rollouts_of(store), group)) == 3
    shares = [share or [store.posted()[0].select(range(0))] for share in shard(store.posted(), 12)]
    for learner, share in zip(group.learners, shares, strict=True):
        fragments = learner.fragments_of(SimpleNamespace(episodes=share))
        assert [f.num_envs for f in fragments] == [p.num_envs for p in share]


def test_nothing_is_left_if_all_is_lost(store):
    rollouts = rollouts_of(store)
    store.fragments.clear()
    assert received(rollouts, Group(2)) == []


def test_what_was_received_for_an_update_that_never_came_is_forgotten(store):
    learner = Group(1).learners[0]
    learner.receive([store.posted()[:2]])
    learner.receive([store.posted()[2:]])
    assert list(learner._received) == ["f2"]
