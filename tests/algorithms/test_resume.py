"""A run that is stopped and restored goes on bit for bit as if it had never been stopped."""

import copy
import sys

import numpy as np
import pytest
import ray
import tree
from ray.rllib.algorithms.algorithm import Algorithm

from rllib_hetero import HAPPOConfig, MAPPOConfig

pytest.importorskip("mpe2")
pytestmark = pytest.mark.usefixtures("ray_local")

# Runners are given `keep_return` by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

BATCH = 200  # 4 environments x 50 steps: two whole episodes of 25 in each


def spread(cls, *, runners=0, **training):
    settings = {
        "lr": [[0, 1e-3], [4 * BATCH, 1e-4]],
        "train_batch_size_per_learner": BATCH,
        "num_epochs": 2,
    }
    return (
        cls()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(
            num_env_runners=runners,
            num_envs_per_env_runner=4 // max(1, runners),
            num_cpus_per_env_runner=0.5,
        )
        .learners(num_learners=0)
        .training(**(settings | training))
        .rl_module(model_config={"hidden_sizes": [16, 16]})
        .callbacks(on_episode_end=keep_return)
        .debugging(seed=5, log_level="ERROR")
    )


def keep_return(*, episode, metrics_logger, **kwargs):
    """Every single return, in the order in which episodes end."""
    metrics_logger.log_value("every_return", episode.get_return(), reduce="item_series")


def train(algo, iterations):
    """What must be equal of each iteration."""
    kept = []
    for _ in range(iterations):
        result = algo.train()
        runners, learners = result["env_runners"], result["learners"]
        kept.append(
            {
                "iteration": result["training_iteration"],
                "steps": result["num_env_steps_sampled_lifetime"],
                "episodes": runners["num_episodes_lifetime"],
                "runner steps": runners["num_env_steps_sampled_lifetime"],
                "returns": np.sort(np.array(runners["every_return"], np.float64)),
                "mean return": runners["episode_return_mean"],
                "losses": {m: learners[m]["loss"] for m in learners if "loss" in learners[m]},
                "lr": {
                    m: r["default_optimizer_learning_rate"]
                    for m, r in learners.items()
                    if "default_optimizer_learning_rate" in r
                },
                "order": algo.learner_group._learner._weights_seq_no,
            }
        )
    return kept


def learner_state(algo):
    """Weights, buffers, optimisers: everything but functions, as flat arrays."""
    state = algo.learner_group.get_state()["learner"]
    return {
        path: np.asarray(x)
        for part in ("rl_module", "optimizer", "weights_seq_no")
        for path, x in tree.flatten_with_path({part: state[part]})
    }


def assert_identical(a, b):
    assert a.keys() == b.keys()
    different = [k for k, x in a.items() if not np.array_equal(x, b[k])]
    assert not different, different


def whole_and_resumed(config, tmp_path, how):
    """Results and final states of 4 iterations at once, and of 2, a restore, and 2.

    `how` it is restored: "from_checkpoint" makes a new algorithm, "restore_from_path" uses a new
    one; "in_place" and "set_state" use the old one, after it has gone on.
    """
    whole = config.copy(copy_frozen=False).build_algo()
    expected = train(whole, 4)
    expected_state = learner_state(whole)
    whole.stop()

    before = config.copy(copy_frozen=False).build_algo()
    got = train(before, 2)
    saved_state = learner_state(before)
    path = before.save_to_path(tmp_path / "checkpoint")
    in_memory = copy.deepcopy(before.get_state())
    # More training must not reach into the checkpoint.
    before.train()

    if how == "in_place":
        after = before
        after.restore_from_path(path)
    elif how == "set_state":
        after = before
        after.set_state(in_memory)
    else:
        before.stop()
        if how == "from_checkpoint":
            after = Algorithm.from_checkpoint(path)
        else:
            after = config.copy(copy_frozen=False).build_algo()
            after.restore_from_path(path)
    assert_identical(saved_state, learner_state(after))
    got += train(after, 2)
    state = learner_state(after)
    after.stop()
    return (expected, expected_state), (got, state)


def assert_resumed(whole, resumed):
    for i, (a, b) in enumerate(zip(whole[0], resumed[0], strict=True)):
        for name, x in a.items():
            y = b[name]
            if isinstance(x, dict):
                assert x == y, (i + 1, name)
                assert x
            else:
                assert np.array_equal(x, y), (i + 1, name, x, y)
    assert_identical(whole[1], resumed[1])


def assert_is_a_run(whole):
    """What is compared says something."""
    results, state = whole
    assert [r["iteration"] for r in results] == [1, 2, 3, 4]
    assert [r["steps"] for r in results] == [BATCH * k for k in (1, 2, 3, 4)]
    assert [len(r["returns"]) for r in results] == [8] * 4
    rates = [r["lr"]["critic"] for r in results]
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 4
    names = {"/".join(map(str, path)) for path in state}
    assert any("exp_avg_sq" in n for n in names)
    assert "rl_module/critic/normalizer.mean" in names


@pytest.mark.parametrize(
    ("cls", "how", "training"),
    [
        pytest.param(HAPPOConfig, "from_checkpoint", {}, id="happo-from_checkpoint"),
        pytest.param(MAPPOConfig, "restore_from_path", {}, id="mappo-restore_from_path"),
        pytest.param(
            HAPPOConfig, "restore_from_path", {"minibatch_size": 64}, id="happo-minibatches"
        ),
        pytest.param(HAPPOConfig, "in_place", {}, id="happo-in_place"),
        pytest.param(MAPPOConfig, "set_state", {}, id="mappo-set_state"),
    ],
)
def test_resumed_run_is_the_uninterrupted_one(cls, how, training, tmp_path):
    config = spread(cls, **training)
    if how == "in_place":
        config.rl_module(model_config={"hidden_sizes": [16, 16], "input_norm": True})
    whole, resumed = whole_and_resumed(config, tmp_path, how)
    assert_is_a_run(whole)
    assert_resumed(whole, resumed)


def test_resumed_run_with_remote_runners_is_the_uninterrupted_one(tmp_path):
    algo = spread(HAPPOConfig, runners=2).build_algo()
    results = train(algo, 2)
    path = algo.save_to_path(tmp_path / "checkpoint")
    results += train(algo, 2)
    whole = results, learner_state(algo)
    assert_is_a_run(whole)

    # New runners, in new processes, and the old ones, that are at later weights and episodes.
    new = Algorithm.from_checkpoint(path)
    algo.restore_from_path(path)
    for resumed in (new, algo):
        results = whole[0][:2] + train(resumed, 2)
        assert_resumed(whole, (results, learner_state(resumed)))
        # 4 iterations of 2 episodes in each of 2 environments.
        progress = resumed.env_runner_group.foreach_env_runner(
            lambda runner: runner.get_progress(), local_env_runner=False
        )
        assert [p["episode_number"] for p in progress] == [[8, 8], [8, 8]]
        assert [p["num_samples"] for p in progress] == [4, 4]
        resumed.stop()
