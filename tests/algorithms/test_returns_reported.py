"""The mean return is in the results of every iteration, also where episodes are longer."""

import logging
import math

import numpy as np
import pytest
import runner_toys as toys
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

from rllib_hetero import HAPPO, HAPPOConfig, TeamError
from rllib_hetero.reporting.progress import row_of

METRIC = "env_runners/episode_return_mean"


def config(length):
    return toys.small(HAPPOConfig(), env_config={"lengths": [length]})


def row(result):
    return row_of(result, iteration=1, env_steps=1, wall_s=1.0, steps_per_s=1.0)


def test_it_is_repeated_until_episodes_end(ray_local, tmp_path):
    """Episodes of 25 steps end in the third and the fifth iteration of 10 steps each."""
    algo = config(25).build_algo()
    results = [algo.train() for _ in range(4)]
    means = [x["env_runners"]["episode_return_mean"] for x in results]
    assert np.isnan(means[:2]).all() and math.isfinite(means[2]) and means[3] == means[2]
    assert [x["env_runners"]["episode_len_mean"] for x in results[2:]] == [25, 25]
    assert np.isfinite([row(x)["episode_return_mean"] for x in results]).tolist() == [
        False, False, True, False,
    ]  # fmt: skip
    restored = HAPPO.from_checkpoint(algo.save_to_path(tmp_path))
    assert restored.train()["env_runners"]["episode_return_mean"] == means[2]
    assert algo.train()["env_runners"]["episode_return_mean"] != means[2]
    for x in (algo, restored):
        x.stop()


def test_it_is_of_the_latest_episodes(ray_local):
    """Of those of an iteration alone, where the window holds no more."""
    algo = config(5).reporting(metrics_num_episodes_for_smoothing=4).build_algo()
    ended = []
    add = algo.env_runner._finished.add

    def seen(envs, tally, metrics):
        ended.extend(tally.team_returns(envs).tolist())
        add(envs, tally, metrics)

    algo.env_runner._finished.add = seen
    for iteration in range(1, 4):
        result = algo.train()["env_runners"]
        assert len(ended) == 4 * iteration
        own = ended[-4:]
        assert result["episode_return_mean"] == pytest.approx(np.mean(own))
        assert result["episode_return_min"] == pytest.approx(min(own))
        assert result["episode_return_max"] == pytest.approx(max(own))
        assert result["num_episodes"] == 4
    assert len(set(ended)) == len(ended)  # no iteration's numbers could stand for another's
    algo.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheduler",
    [
        lambda: ASHAScheduler(time_attr="training_iteration", grace_period=1, max_t=6),
        lambda: PopulationBasedTraining(
            time_attr="training_iteration",
            # A trial that takes another's weights begins new episodes: here after it has ended one.
            perturbation_interval=3,
            hyperparam_mutations={"lr": [1e-3, 1e-4]},
        ),
    ],
    ids=["ASHA", "PBT"],
)
def test_schedulers_take_it(ray_local, tmp_path, scheduler):
    config_ = config(25).training(lr=tune.choice([1e-3, 1e-4]))
    results = tune.Tuner(
        "HAPPO",
        param_space=config_,
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", num_samples=2, scheduler=scheduler()
        ),
        run_config=tune.RunConfig(
            stop={"training_iteration": 6}, storage_path=str(tmp_path), verbose=0
        ),
    ).fit()
    assert not results.errors
    assert math.isfinite(results.get_best_result().metrics["env_runners"]["episode_return_mean"])


def test_runners_that_are_restarted_in_vain_end_the_training(ray_local, monkeypatch):
    """An environment whose reset raises now and then used to go on for ever at 0 steps."""
    algo = config(5).env_runners(num_env_runners=0).build_algo()
    restarts = iter(range(0, 100, 2))
    group = algo.env_runner_group
    monkeypatch.setattr(group, "num_remote_worker_restarts", lambda: next(restarts))
    algo.config = algo.config.copy(copy_frozen=False)
    algo.config.num_env_runners = 2
    log = logging.getLogger("test")
    for _ in range(5):
        algo._without_samples(log)
    with pytest.raises(TeamError, match=r"restarted 10 times.*restart_failed_sub_env"):
        algo._without_samples(log)
    algo._fragments(algo.env_runner.sample(num_timesteps=4))
    algo._without_samples(log)  # data has come in between
    # A node that is lost: nothing is restarted, and it is waited for.
    monkeypatch.setattr(group, "num_remote_worker_restarts", lambda: 10)
    for _ in range(20):
        algo._without_samples(log)
    algo.stop()
