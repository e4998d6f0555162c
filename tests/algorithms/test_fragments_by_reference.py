"""Remote learners read what remote runners have posted; the driver does not."""

import copy
import logging
import sys
import time

import numpy as np
import pytest
import ray
from toys import CountingTeam

from rllib_hetero import HAPPOConfig
from rllib_hetero.algorithms.on_policy import algorithm
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.references import fetch_all
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.runners.posted import PostedFragment

pytestmark = pytest.mark.usefixtures("ray_local")

# Runners are given this file's functions by value: they cannot import it.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def build(num_learners=2, *, by_reference=True, **training):
    """A batch is one rollout of 8 steps of each of two runners' three environments."""
    algo = (
        HAPPOConfig()
        .environment(CountingTeam, env_config={"state": True})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=3, num_cpus_per_env_runner=0.5)
        .learners(num_learners=num_learners, num_cpus_per_learner=0.5)
        .training(
            train_batch_size_per_learner=48 // max(1, num_learners), num_epochs=2,
            minibatch_size=16 // max(1, num_learners), lr=1e-3, adam_epsilon=1e-3,
            reward_scaling=True, value_norm=True, **training,
        )
        .rl_module(model_config={"hidden_sizes": [8], "input_norm": True})
        .fault_tolerance(delay_between_env_runner_restarts_s=0)
        .debugging(seed=2, log_level="ERROR")
        .build_algo()
    )  # fmt: skip
    if not by_reference:
        algo._by_reference = False
        if algo.rollouts_ahead is not None:
            algo.rollouts_ahead._by_reference = False
    return algo


def weights_of(algo):
    return copy.deepcopy(algo.get_weights())


def seen_by_the_driver(algo):
    """Makes a list of what the learners are given, as the driver hands it on."""
    seen, update = [], algo.learner_group.update

    def watched(*, training_data, **kwargs):
        seen.extend(training_data.episodes)
        return update(training_data=training_data, **kwargs)

    algo.learner_group.update = watched
    return seen


def run(algo, iterations=3):
    """Weights and metrics after each iteration, and what passed through the driver."""
    seen = seen_by_the_driver(algo)
    after = []
    for _ in range(iterations):
        result = algo.train()
        steps = {k: v for k, v in result["env_runners"].items() if k.startswith("num_")}
        after.append((weights_of(algo), steps, result["env_runners"]["episode_return_mean"]))
    algo.stop()
    return after, seen


def gap(one, two):
    assert one.keys() == two.keys()
    return max(
        np.abs(np.asarray(x, float) - np.asarray(two[m][k], float)).max()
        for m, weights in one.items()
        for k, x in weights.items()
    )


def counts(steps):
    return {k: v for k, v in steps.items() if "per_sec" not in k and "throughput" not in k}


def assert_equal(one, two):
    for (weights, steps, mean), (weights_2, steps_2, mean_2) in zip(one, two, strict=True):
        assert gap(weights, weights_2) == 0
        assert counts(steps) == counts(steps_2) and mean == mean_2


def test_learners_make_of_what_is_posted_what_they_make_of_fragments():
    algo, calls = build(), []
    learners = algo.learner_group
    before, update = learners.get_state(), learners.update
    learners.update = lambda **kwargs: calls.append(kwargs) or update(**kwargs)
    result = algo.train()
    by_reference = weights_of(algo)

    (call,) = calls
    posted = call.pop("training_data").episodes
    assert {type(f) for f in posted} == {PostedFragment} and len(posted) == 2
    fragments = fetch_all([f.reference for f in posted], timeout_s=60)
    assert {type(f) for f in fragments} == {TeamFragment}
    assert result["env_runners"]["num_env_steps_sampled"] == sum(map(len_of, fragments)) == 48
    learners.set_state(before)
    update(training_data=TeamTrainingData(episodes=fragments), **call)
    after = learners.get_weights()
    assert gap(after, by_reference) == 0
    assert gap(after, before["learner"]["rl_module"]) > 1e-3
    algo.stop()


def len_of(fragment):
    return int(fragment.steps_by_env.sum())


@pytest.mark.slow
def test_by_reference_the_numbers_are_those_by_value():
    by_value, fragments = run(build(by_reference=False))
    assert {type(f) for f in fragments} == {TeamFragment}
    for overlap in (False, True):
        by_reference, posted = run(build(overlap=overlap))
        assert {type(f) for f in posted} == {PostedFragment} and len(posted) == 6
        assert_equal(by_reference, by_value)
    assert gap(by_reference[0][0], by_reference[-1][0]) > 1e-3


def kill(algo, *ids):
    for i in ids:
        ray.kill(algo.env_runner_group._worker_manager._actors[i], no_restart=False)


def wait_until_lost(reference, seconds=60):
    """A process ends some time after it is killed, and its objects after it."""
    end = time.monotonic() + seconds
    while fetch_all([reference], timeout_s=1) != [None]:
        assert time.monotonic() < end, "the object is still there"
        time.sleep(0.2)


@pytest.mark.slow
def test_runners_that_end_when_they_have_posted(monkeypatch, caplog):
    """What they had sampled is neither counted nor trained on; the others sample a batch."""
    algo, doomed = build(), []

    def after_a_loss(rollouts, learners):
        kill(algo, *doomed)
        for i in doomed:
            wait_until_lost(rollouts[i - 1].fragments[0].reference)
        doomed.clear()
        return receive(rollouts, learners)

    receive = algorithm.received
    monkeypatch.setattr(algorithm, "received", after_a_loss)
    seen = seen_by_the_driver(algo)
    assert algo.train()["env_runners"]["num_env_steps_sampled"] == 48

    before = weights_of(algo)
    doomed.append(1)
    with caplog.at_level(logging.WARNING):
        result = algo.train()
    assert "1 of 2 fragments are lost" in caplog.text
    assert result["env_runners"]["num_env_steps_sampled"] == 48
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 96
    assert result["learners"]["__all_modules__"]["num_env_steps_trained"] == 48
    assert len(seen) == 4 and gap(before, weights_of(algo)) > 0
    train_until_whole(algo)

    before = weights_of(algo)
    doomed += [1, 2]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        algo.train()
    assert "2 of 2 fragments are lost" in caplog.text
    assert "this iteration trains nothing" in caplog.text
    assert gap(before, weights_of(algo)) == 0
    train_until_whole(algo)
    weights = [r.get() for r in algo.learner_group.foreach_learner(head_of)]
    assert np.array_equal(*weights) and np.isfinite(weights[0]).all()
    algo.stop()


def head_of(learner):
    return learner.module["a"].head.weight.detach().numpy().copy()


def train_until_whole(algo, iterations=30):
    for _ in range(iterations):
        result = algo.train()
        healthy = result["fault_tolerance"]["num_healthy_workers"]
        if healthy == 2 and result["env_runners"]["num_env_steps_sampled"] == 48:
            return
    pytest.fail(f"not after {iterations} iterations: {result['env_runners']}")


@ray.remote(num_cpus=0.1)
class Owner:
    def put(self, size):
        return ray.put(np.zeros(size, np.uint8))

    def late(self):
        time.sleep(60)


def test_what_is_lost_or_late_is_told_from_what_is_there():
    mine, doomed = Owner.remote(), Owner.remote()
    here = ray.get(mine.put.remote(1_000_000))
    lost = ray.get(doomed.put.remote(1_000_000))
    ray.kill(doomed)
    found = fetch_all([here, lost, mine.late.remote(), "itself"], timeout_s=10)
    assert found[0].shape == (1_000_000,) and found[1:] == [None, None, "itself"]
    ray.kill(mine)


@pytest.mark.slow
def test_nothing_stays_in_the_object_store():
    """Each iteration's fragments go when the next one's come."""
    algo = build(1)
    held = []
    for _ in range(4):
        algo.train()
        held += algo.env_runner_group.foreach_env_runner(num_owned, local_env_runner=False)
    algo.stop()
    assert max(held[2:]) <= min(held[2:]) + 1, held


def num_owned(runner):
    """How many objects this process has a count of references for."""
    return len(ray._private.worker.global_worker.core_worker.get_all_reference_counts())
