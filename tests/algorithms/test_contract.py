"""What every registered algorithm must do. A new one is put through this once it is registered.

What its `capabilities` promise it must do, and what they deny it must refuse, by an error before
anything is set up.
"""

import logging

import numpy as np
import pytest
import toys
from contract_toys import (
    assert_finite_and_all_modules_changed,
    capabilities_of,
    config_for,
    is_decentralised,
    is_on_policy,
    refused,
    weights_of,
)
from ray import cloudpickle, tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.tune.registry import get_trainable_cls

import rllib_hetero
from rllib_hetero import ALGORITHMS, load_policies
from rllib_hetero.algorithms.on_policy.sequential import SequentialConfig

ITERATIONS = 13

pytestmark = pytest.mark.usefixtures("ray_local")
every_algorithm = pytest.mark.parametrize("name", sorted(ALGORITHMS))


# Starting processes takes longer than training: on policy, off policy, and from whole episodes.
one_of_each_kind = pytest.mark.parametrize(
    "name", ["HAPPO", *(pytest.param(name, marks=pytest.mark.slow) for name in ("HASAC", "QMIX"))]
)

KINDS = {"Box": "box", "Discrete": "discrete", "MultiDiscrete": "multi"}


def evaluated(config):
    return config.evaluation(evaluation_interval=1, evaluation_duration=8)


def learning(name, *args, **settings):
    """One that learns a toy within `ITERATIONS`."""
    return evaluated(config_for(name, *args, steps=400, updates=40, **settings))


def train_until(algo, learned):
    """The results of the first iteration, and of that which has `learned`, or the last allowed."""
    first = last = algo.train()
    for _ in range(ITERATIONS - 1):
        if learned(last):
            break
        last = algo.train()
    algo.stop()
    return first, last


def returns_of(result):
    """Means: of training, and of evaluation."""
    return (
        result["env_runners"]["episode_return_mean"],
        result["evaluation"]["env_runners"]["episode_return_mean"],
    )


@every_algorithm
def test_learns_to_act_together_and_evaluates_greedily(name):
    # Random play pays 5 steps * 1/4; both acting together pay 5.
    def learned(result):
        explored, greedy = returns_of(result)
        return explored > 3.0 and greedy == 5.0

    first, last = train_until(learning(name).build_algo(), learned)
    assert first["env_runners"]["episode_return_mean"] < 2.0
    assert learned(last), returns_of(last)
    assert last["evaluation"]["env_runners"]["num_episodes"] == 8


@every_algorithm
def test_a_restored_algorithm_goes_on_as_if_never_stopped(name, tmp_path):
    whole = evaluated(config_for(name)).build_algo()
    for _ in range(4):
        whole.train()
    stopped = evaluated(config_for(name)).build_algo()
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
def test_is_made_by_name(name):
    """As Ray Tune does it: from a class that it knows by name, and from settings in a dict."""
    config = config_for(name).training(lr=2e-3)
    algo = get_trainable_cls(name)(config=cloudpickle.loads(cloudpickle.dumps(config.to_dict())))
    result = algo.train()
    algo.stop()
    assert algo.config.lr == 2e-3
    assert np.isfinite(result["env_runners"]["episode_return_mean"])


@one_of_each_kind
def test_runs_under_tune_by_name(name, tmp_path):
    config = config_for(name)
    results = tune.Tuner(
        name,
        param_space=config.training(lr=tune.grid_search([2e-3])),
        run_config=tune.RunConfig(
            stop={"training_iteration": 1}, storage_path=str(tmp_path), verbose=0
        ),
    ).fit()
    assert not results.errors
    (result,) = results
    assert result.config["lr"] == 2e-3
    assert np.isfinite(result.metrics["env_runners"]["episode_return_mean"])


@pytest.mark.parametrize("name", [name for name in sorted(ALGORITHMS) if is_on_policy(name)])
def test_two_learners_train_on_what_a_remote_runner_samples(name, pair):
    config = config_for(name).env_runners(num_env_runners=1).learners(num_learners=2)
    if refused(capabilities_of(name).several_learners, config, "num_learners"):
        return
    config.validate()
    state = toys.make_learner(config).get_state()
    _, one, two = pair(config, state, [pair.sample(config, state)])
    assert one.keys() == two.keys()
    for (m, key), x in one.items():
        assert np.array_equal(x, two[m, key]) and np.isfinite(x).all(), (m, key)
    for m in (*config.layout.groups, "critic"):
        before = state["rl_module"][m]
        assert any(not np.array_equal(one[m, k], x) for k, x in before.items()), m


@one_of_each_kind
def test_trains_with_remote_runners_and_two_learners(name):
    config = (
        config_for(name)
        .env_runners(num_env_runners=1, num_envs_per_env_runner=8)
        .learners(num_learners=2)
    )
    if refused(capabilities_of(name).several_learners, config, "num_learners"):
        return
    algo = config.build_algo()
    before = weights_of(algo)
    result = algo.train()
    after = weights_of(algo)
    algo.stop()
    # On-policy learners ask for a batch each.
    sampled = 160 if is_on_policy(name) else 80
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == sampled
    assert_finite_and_all_modules_changed(algo, before, after)


@every_algorithm
def test_teams_with_a_memory(name, tmp_path):
    """Trains, evaluates, is restored to the bit, and its checkpoint remembers within an episode."""
    model = {"recurrent": "gru", "max_seq_len": 3}
    of_critic = "critic_recurrent" in ALGORITHMS[name].get_default_config().model_defaults
    if of_critic:
        model["critic_recurrent"] = "lstm"
    case = {"length": 4, "multi": "MultiDiscrete" in capabilities_of(name).actions}
    # Whole episodes: those at hand are not in a checkpoint.
    config = evaluated(config_for(name, toys.MemoryTeam, case, model=model, steps=64))
    if refused(capabilities_of(name).recurrent, config, "recurrent"):
        return
    algo = config.build_algo()
    before = weights_of(algo)
    algo.train()
    path = algo.save_to_path(str(tmp_path / "checkpoint"))
    last = algo.train()
    expected = weights_of(algo)
    algo.stop()
    assert last["evaluation"]["env_runners"]["num_episodes"] == 8
    assert_finite_and_all_modules_changed(algo, before, expected)
    recurrent = [k for k in expected if "memory" in k[1]]
    assert {m for m, _ in recurrent} == {"a", "b", *(["critic"] if of_critic else [])}
    assert all(not np.array_equal(before[k], expected[k]) for k in recurrent)

    resumed = Algorithm.from_checkpoint(path)
    resumed.train()
    got = weights_of(resumed)
    resumed.stop()
    assert all(np.array_equal(x, got[k]) for k, x in expected.items())

    policies = load_policies(path)
    seen = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    episodes = []
    for first in (seen[0], seen[0], -seen[0]):
        policies.reset()
        policies.seed(0)
        for x in (first, *seen[1:]):
            policies.act({"a": x[:2], "b": x[2:]}, explore=True)
        episodes.append({a: s.numpy().copy() for a, s in policies._states.items()})
    for a in "ab":
        assert np.array_equal(episodes[0][a], episodes[1][a])
        assert not np.array_equal(episodes[0][a], episodes[2][a])


@every_algorithm
def test_learns_with_masked_actions_and_takes_no_other(name):
    """The choice that pays most is never allowed; the environment refuses it."""
    payoff = [[0.0, 0.0, 9.0], [0.0, 1.0, 9.0], [9.0, 9.0, 9.0]]
    config = learning(name, toys.MaskedMatrixTeam, {"payoff": payoff, "length": 5})
    if refused(capabilities_of(name).action_masks, config, "mask"):
        return

    def learned(result):
        explored, greedy = returns_of(result)
        return explored > 3.0 and greedy == 5.0

    _, last = train_until(config.build_algo(), learned)
    assert learned(last), returns_of(last)


@every_algorithm
def test_learns_continuous_actions(name):
    config = learning(name, toys.TargetTeam, lr=5e-3)
    if refused("Box" in capabilities_of(name).actions, config, "Box"):
        return

    # Doing nothing pays -0.75, and noise costs something all the time.
    def learned(result):
        return returns_of(result)[1] > -0.25

    first, last = train_until(config.build_algo(), learned)
    assert first["env_runners"]["episode_return_mean"] < -0.75
    assert learned(last), returns_of(last)


@pytest.mark.parametrize("state", [False, True])
@every_algorithm
def test_unequal_agents_with_and_without_a_global_state(name, state):
    """Of all kinds of actions that it can do; one of them dies."""
    kinds = [KINDS[k] for k in capabilities_of(name).actions]
    agents = {f"agent_{i}": (2 + i, kind) for i, kind in enumerate([*kinds, kinds[0]])}
    case = {"agents": agents, "state": state, "dies": {"agent_0": 3}}
    config = config_for(name, toys.CountingTeam, case)
    if refused(capabilities_of(name).unequal_spaces, config, "unequal spaces"):
        return
    algo = config.build_algo()
    assert set(algo.config.layout.groups) == set(agents)
    before = weights_of(algo)
    result = algo.train()
    algo.stop()
    assert_finite_and_all_modules_changed(algo, before, weights_of(algo))
    assert np.isfinite(result["env_runners"]["episode_return_mean"])
    if is_decentralised(name):  # Critics are the agents' own; their shapes are tested with them.
        return
    inputs = algo.learner_group._learner.module["critic"].observation_space.shape
    sees_state = state and capabilities_of(name).global_state
    assert inputs == ((3,) if sees_state else (sum(size for size, _ in agents.values()),))


@every_algorithm
def test_agents_that_share_a_network(name, caplog):
    """Those that update one agent after another warn of it."""
    config = config_for(
        name, toys.CountingTeam, {"agents": {a: (3, "discrete") for a in "abc"}}
    ).multi_agent(parameter_sharing="full")  # fmt: skip
    if refused(capabilities_of(name).parameter_sharing, config, "parameter_sharing"):
        return
    with caplog.at_level(logging.WARNING, "rllib_hetero"):
        algo = config.build_algo()
    warned = [r.getMessage() for r in caplog.records if "share one network" in r.getMessage()]
    if isinstance(config, SequentialConfig) or getattr(config, "sequential", False):
        assert warned and name in warned[0] and "parameter_sharing='none'" in warned[0]
    else:
        assert not warned
    before = weights_of(algo)
    algo.train()
    algo.stop()
    assert set(algo.config.layout.groups) == {"shared"}
    assert_finite_and_all_modules_changed(algo, before, weights_of(algo))


def test_every_name_in_all_exists():
    for name in rllib_hetero.__all__:
        assert hasattr(rllib_hetero, name), name
