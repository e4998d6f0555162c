"""What every registered algorithm must do. A new one is put through this once it is registered."""

import numpy as np
import pytest
import toys
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm

import rllib_hetero
from rllib_hetero import ALGORITHMS, load_policies

# Two agents; both must choose their second action. Nothing else pays.
TOGETHER = [[0.0, 0.0], [0.0, 1.0]]

pytestmark = pytest.mark.usefixtures("ray_local")
every_algorithm = pytest.mark.parametrize("name", sorted(ALGORITHMS))


def config_for(name, **training):
    return (
        ALGORITHMS[name]
        .get_default_config()
        .environment(toys.MatrixTeam, env_config={"payoff": TOGETHER, "length": 5})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .rl_module(model_config={"hidden_sizes": [32]})
        .training(
            **{"train_batch_size_per_learner": 400, "lr": 3e-3, "entropy_coeff": 0.0} | training
        )
        .evaluation(evaluation_interval=1, evaluation_duration=8)
        .debugging(seed=0)
    )


def weights_of(algo):
    state = algo.learner_group.get_weights()
    return {(m, n): np.asarray(x) for m, part in state.items() for n, x in part.items()}


@every_algorithm
def test_learns_to_act_together_and_evaluates_greedily(name):
    algo = config_for(name).build_algo()
    first = algo.train()
    for _ in range(14):
        last = algo.train()
    algo.stop()
    # Random play pays 5 steps * 1/4; both acting together pay 5.
    assert first["env_runners"]["episode_return_mean"] < 2.0
    assert last["env_runners"]["episode_return_mean"] > 4.0
    assert last["evaluation"]["env_runners"]["episode_return_mean"] == 5.0
    assert last["evaluation"]["env_runners"]["num_episodes"] == 8


@every_algorithm
def test_a_restored_algorithm_goes_on_as_if_never_stopped(name, tmp_path):
    whole = config_for(name).build_algo()
    for _ in range(4):
        whole.train()
    stopped = config_for(name).build_algo()
    for _ in range(2):
        stopped.train()
    path = stopped.save_to_path(str(tmp_path / "checkpoint"))
    stopped.stop()
    resumed = Algorithm.from_checkpoint(path)
    for _ in range(2):
        resumed.train()
    expected, got = weights_of(whole), weights_of(resumed)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=str(key))
    whole.stop()
    resumed.stop()


@every_algorithm
def test_its_checkpoint_acts_without_the_algorithm(name, tmp_path):
    algo = config_for(name).build_algo()
    algo.train()
    policies = load_policies(algo.save_to_path(str(tmp_path / "checkpoint")))
    algo.stop()
    observations = {agent: np.ones(1, np.float32) for agent in policies.agents}
    actions = policies.act(observations)
    assert actions.keys() == observations.keys()
    assert all(isinstance(a, int) and 0 <= a < 2 for a in actions.values())


@every_algorithm
def test_runs_under_tune_by_name(name, tmp_path):
    config = config_for(name).evaluation(evaluation_interval=None)
    results = tune.Tuner(
        name,
        param_space=config.training(lr=tune.grid_search([1e-3, 2e-3])),
        run_config=tune.RunConfig(
            stop={"training_iteration": 1}, storage_path=str(tmp_path), verbose=0
        ),
    ).fit()
    assert not results.errors
    assert len(results) == 2
    assert {r.config["lr"] for r in results} == {1e-3, 2e-3}
    for result in results:
        assert np.isfinite(result.metrics["env_runners"]["episode_return_mean"])


@every_algorithm
def test_trains_with_remote_runners_and_two_learners(name):
    algo = (
        config_for(name)
        .env_runners(num_env_runners=1, num_envs_per_env_runner=8)
        .learners(num_learners=2)
        .build_algo()
    )
    before = weights_of(algo)
    result = algo.train()
    after = weights_of(algo)
    algo.stop()
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 800
    for module in algo.config.layout.groups:
        assert any(not np.array_equal(after[k], before[k]) for k in before if k[0] == module), (
            f"{module} did not change"
        )


def test_every_name_in_all_exists():
    for name in rllib_hetero.__all__:
        assert hasattr(rllib_hetero, name), name
