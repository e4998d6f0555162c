"""Every argument of every fluent method: used, refused or meaningless; its type and range."""

import logging
import math

import numpy as np
import pytest
import ray
import runner_toys as toys
import torch
from off_policy_toys import off_policy_config
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.rllib.policy.policy import PolicySpec

from rllib_hetero import ALGORITHMS, HAPPOConfig, HATD3Config, HATRPOConfig, TeamError
from rllib_hetero.algorithms.arguments import (
    MEANINGLESS,
    METHODS,
    OF_THE_STOCK_RUNNER,
    REFUSED,
    USED,
    arguments_of,
    value_of,
)
from rllib_hetero.algorithms.resources import check_gpus

TABLES = (USED, REFUSED, OF_THE_STOCK_RUNNER, MEANINGLESS)


def fluent_methods(config_class):
    """The methods whose name a user calls with settings."""
    return {
        name
        for owner in config_class.__mro__
        if issubclass(owner, AlgorithmConfig)
        for name, method in vars(owner).items()
        if callable(method) and "Self" in str(getattr(method, "__annotations__", {}).get("return"))
    }


def test_the_table_has_every_argument_of_rllib():
    """Fails when RLlib gains one, or loses one: say what becomes of it in `arguments.py`."""
    known = {
        (method, name) for table in TABLES for method, names in table.items() for name in names
    }
    there = {(a.method, a.name) for a in arguments_of(AlgorithmConfig)}
    assert known == there
    assert sum(len(names) for table in TABLES for names in table.values()) == len(known)


def test_the_table_has_every_method_of_rllib():
    others = {"copy", "get_config_for_module", "update_from_dict", "from_dict", "from_state"}
    found = fluent_methods(AlgorithmConfig) - others
    assert {m for m in found if not m.startswith("_")} <= set(METHODS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_arguments_of_ours_are_kept_where_they_are_looked_for(name):
    config = ALGORITHMS[name].get_default_config()
    ours = [a for a in arguments_of(type(config)) if a.ours]
    assert ours
    assert [
        a for a in ours if value_of(config, a.name) is None and a.name not in vars(config)
    ] == []


def happo(**kwargs):
    return toys.small(HAPPOConfig(), **kwargs)


@pytest.fixture
def no_actors(monkeypatch):
    monkeypatch.setattr(Algorithm, "setup", lambda *_: pytest.fail("the algorithm was set up"))


REFUSED_CASES = [
    (method, name)
    for method, names in REFUSED.items()
    for name in names
    if (method, name) != ("environment", "env")
]
ANOTHER = {
    "gym_env_vectorize_mode": "async",
    "torch_compile_learner_what_to_compile": "complete_update",
    "torch_compile_learner_dynamo_mode": "reduce-overhead",
    "torch_compile_worker_dynamo_mode": "reduce-overhead",
    "torch_ddp_kwargs": {"static_graph": True},
    "count_steps_by": "agent_steps",
    "observation_filter": "MeanStdFilter",
    "observation_space": toys.ACTIONS["box"],
    "action_space": toys.ACTIONS["box"],
    "model": {"fcnet_hiddens": [8]},
    "optimizer": {"x": 1},
    "exploration_config": {"type": "EpsilonGreedy"},
    "off_policy_estimation_methods": {"x": {"type": "is"}},
    "enable_rl_module_and_learner": False,
    "enable_env_runner_and_connector_v2": False,
    "add_default_connectors_to_learner_pipeline": False,
    "input_": "/data",
    "output": "/data",
    "preprocessor_pref": "rllib",
    "action_mask_key": "mask",
    "checkpoint_trainable_policies_only": True,
}


@pytest.mark.parametrize(("method", "name"), REFUSED_CASES)
def test_what_would_be_ignored_is_refused(no_actors, method, name):
    config = happo()
    default = value_of(HAPPOConfig(), name)
    another = ANOTHER.get(name, not default if isinstance(default, bool) else 7)
    getattr(config, method)(**{name: another})
    with pytest.raises(ValueError, match=rf"config\.{method}\({name}=.*would change nothing: "):
        config.build_algo()


OF_ANOTHER_RUNNER = [
    ("environment", "disable_env_checking", True),
    ("env_runners", "episode_lookback_horizon", 3),
    ("env_runners", "episodes_to_numpy", False),
    ("env_runners", "add_default_connectors_to_env_to_module_pipeline", False),
    ("env_runners", "add_default_connectors_to_module_to_env_pipeline", False),
]


@pytest.mark.parametrize(("method", "name", "value"), OF_ANOTHER_RUNNER)
def test_what_only_the_stock_runner_reads(no_actors, method, name, value):
    config = happo()
    getattr(config, method)(**{name: value})
    config.copy(copy_frozen=False).env_runners(env_runner_cls=MultiAgentEnvRunner).validate()
    with pytest.raises(ValueError, match=rf"\({name}=.*stock runner.*=MultiAgentEnvRunner"):
        config.build_algo()


def test_every_argument_of_the_stock_runner_is_tried():
    there = {(m, name) for m, names in OF_THE_STOCK_RUNNER.items() for name in names}
    assert there == {(m, name) for m, name, _ in OF_ANOTHER_RUNNER}


@pytest.mark.parametrize(
    "config", [happo, lambda: off_policy_config(HATD3Config)], ids=["on-policy", "off-policy"]
)
def test_rllibs_own_update_is_made_for_no_team(ray_local, monkeypatch, config):
    """Why its settings are refused: set behind the check's back, nothing reads them."""
    used = []
    monkeypatch.setattr(torch, "compile", lambda *_, **__: used.append("compile"))
    monkeypatch.setattr(TorchLearner, "apply_gradients", lambda *_: used.append("apply"))
    monkeypatch.setattr(TorchLearner, "_uncompiled_update", lambda *_: used.append("update"))
    monkeypatch.setattr("rllib_hetero.algorithms.team_config.check_arguments", lambda _: None)
    config = config().framework(torch_compile_learner=True, torch_compile_worker=True)
    config.experimental(_torch_grad_scaler_class=lambda: used.append("scaler"))
    algo = config.build_algo()
    results = [algo.train() for _ in range(3)]
    algo.stop()
    assert used == [] and "gradient_norm" in str(results)


# ---- types and ranges -------------------------------------------------------------------------

BAD = {
    "env_runners": {
        "num_cpus_per_env_runner": (-1, "x"),
        "num_env_runners": (-1, 1.5, True, None, "2"),
        "num_envs_per_env_runner": (2.5,),
        "explore": ("x", None),
        "sample_timeout_s": ("x", -1),
    },
    "environment": {"clip_actions": ("x",), "normalize_actions": (1,)},
    "fault_tolerance": {
        "delay_between_env_runner_restarts_s": ("x", -1),
        "restart_failed_env_runners": ("yes",),
    },
    "learners": {"num_learners": (-1, "x"), "num_gpus_per_learner": ("x", -1)},
    "training": {
        "lr": (-1e-3, math.nan, "x", [[0, 1e-3], [100, -1.0]]),
        "minibatch_size": (0, -4, 12.5),
        "num_epochs": (2.5, 0),
        "value_norm": ("x",),
        "gamma": ("x", math.nan),
        "grad_clip": ("x",),
        "train_batch_size_per_learner": (0, 20.5),
    },
    "debugging": {"seed": ("x", 1.5, -1)},
    "evaluation": {"evaluation_interval": (-1, "x"), "evaluation_num_env_runners": (-1,)},
    "reporting": {"metrics_num_episodes_for_smoothing": (0, "x")},
}


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [(m, n, v) for m, names in BAD.items() for n, values in names.items() for v in values],
)
def test_types_and_ranges(no_actors, method, name, value):
    config = happo()
    with pytest.raises(ValueError, match=rf"`{name}` is .*but must be .*config\.{method}\({name}="):
        getattr(config, method)(**{name: value}).build_algo()


@pytest.mark.parametrize("sizes", [[0], [], "x", [8.5], [True]])
@pytest.mark.parametrize("key", ["hidden_sizes", "critic_hidden_sizes"])
def test_sizes_of_layers(no_actors, sizes, key):
    with pytest.raises(ValueError, match=rf"`{key}` is .*whole numbers above 0.*model_config="):
        happo().rl_module(model_config={key: sizes}).build_algo()


def test_numbers_of_numpy_are_numbers():
    # Those that a search draws, say.
    happo().training(
        lr=np.float32(1e-3), num_epochs=np.int64(2), grad_clip=np.float64(3)
    ).validate()


def test_what_an_environment_is_told_is_its_own():
    happo(env_config={"lengths": [5], "value": math.nan, "most": math.inf, "key": 2**70}).validate()


def test_gpus_that_are_not_there(ray_local):
    config = happo().learners(num_learners=1, num_gpus_per_learner=1)
    with pytest.raises(TeamError, match=r"num_gpus_per_learner=1\): this Ray cluster has no GPU"):
        config.build_algo()
    assert not ray.cluster_resources().get("GPU")


def test_a_gpu_that_this_process_has_not(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(TeamError, match=r"num_gpus_per_learner=0.5\): the learner is in this"):
        check_gpus(happo().learners(num_gpus_per_learner=0.5))


# ---- evaluation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"explore": "x"}, r"`explore` is 'x', but must be True or False .*'explore': ..."),
        ({"num_envs_per_env_runner": 0}, r"must be at least 1 .*'num_envs_per_env_runner': ..."),
        ({"env_config": 3}, r"`env_config` is 3, but must be a dict .*'env_config': ..."),
        ({"seed": math.nan}, r"`seed` is nan, but must be a whole number"),
        ({"env_timeout_s": "x"}, r"`env_timeout_s` is 'x', but must be a number or None"),
        ({"compress_observations": True}, r"'compress_observations': True.*would change nothing"),
        ({"episodes_to_numpy": False}, r"'episodes_to_numpy': False.*only RLlib's stock runner"),
        ({"lr": 1e-3}, r"'lr': 0.001.*would change nothing: an evaluation trains nothing"),
        ({"model_config": {}}, r"would change nothing: the policies are the training's"),
        ({"evaluation_duration": 3}, r"would change nothing: .*config\.evaluation\(...\) itself"),
        ({"num_env_runners": 2}, r"config\.evaluation\(evaluation_num_env_runners=...\)"),
        ({"explor": True}, r"no such setting. Did you mean 'explore'"),
        ({3: True}, r"no such setting"),
        (HAPPOConfig().env_runners(explore="x"), r"`explore` is 'x', but must be True or False"),
    ],
)
def test_settings_of_the_evaluation(no_actors, given, message):
    config = happo().evaluation(evaluation_interval=1)
    config.evaluation_config = given  # a dict's numbers as keys do not get through RLlib's method
    with pytest.raises(ValueError, match=rf"(?=.*evaluation\(evaluation_config=).*{message}"):
        config.build_algo()


def test_settings_that_an_evaluation_has_of_its_own():
    config = happo().evaluation(
        evaluation_interval=1,
        evaluation_config={
            "explore": True,
            "env_config": {"lengths": [3]},
            "num_envs_per_env_runner": 3,
            "env_runner_cls": MultiAgentEnvRunner,
            "episodes_to_numpy": False,
            "env_timeout_s": None,
            "callbacks_on_episode_end": print,
            "seed": 5,
        },
    )
    config.validate()


# ---- modules of their own ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gamma", "lambda_", "num_epochs", "minibatch_size"])
def test_overrides_that_no_module_reads(no_actors, name):
    config = happo().rl_module(algorithm_config_overrides_per_module={"a": {name: 1}})
    with pytest.raises(ValueError, match=rf"\['{name}'\] cannot be overridden for.*'a'.*'lr'"):
        config.build_algo()


def test_overrides_of_a_module_that_is_not_there(no_actors):
    config = happo().rl_module(algorithm_config_overrides_per_module={"z": {"lr": 1e-3}})
    with pytest.raises(ValueError, match=r"names 'z'; the modules are \['a', 'b', 'c', 'critic'\]"):
        config.build_algo()


def test_overrides_that_are_read():
    for cls, given in (
        (HAPPOConfig, {"lr": 1e-3, "clip_param": 0.1, "entropy_coeff": 0.0}),
        (HATRPOConfig, {"kl_threshold": 0.02}),
    ):
        config = toys.small(cls()).rl_module(algorithm_config_overrides_per_module={"a": given})
        config.validate()
    with pytest.raises(ValueError, match=r"`lr` is -1, but must be at least 0"):
        happo().rl_module(algorithm_config_overrides_per_module={"a": {"lr": -1}}).validate()
    assert "clip_param" not in HATD3Config.per_module


def test_a_policy_spec_with_a_config(no_actors):
    config = happo().multi_agent(
        policies={"p": PolicySpec(config={"lr": 1.0}), "q": PolicySpec()},
        policy_mapping_fn=lambda agent, *_, **__: "q" if agent == "a" else "p",
    )
    with pytest.raises(ValueError, match=r"PolicySpec of 'p' has a config.*overrides_per_module"):
        config.build_algo()


def test_defaults_are_silent(caplog):
    caplog.set_level(logging.WARNING, "rllib_hetero")
    config = happo()
    config.validate()
    config.copy(copy_frozen=False).validate()
    assert not [r for r in caplog.records if r.name.startswith("rllib_hetero")]


def test_defaults_as_a_file_of_tune_holds_them():
    """Enums are texts there, and tuples lists."""
    config = HAPPOConfig().environment("matrix_game", env_config={"game": "climbing"})
    what = config.torch_compile_learner_what_to_compile
    config.framework(torch_compile_learner_what_to_compile=what.value)
    config.validate()
