"""Every argument of every fluent method: used, refused or meaningless; its type and range."""

import logging
import math

import numpy as np
import pytest
import ray
import runner_toys as toys
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.policy.policy import PolicySpec

from rllib_hetero import ALGORITHMS, HAPPOConfig, HATD3Config, HATRPOConfig, TeamError
from rllib_hetero.algorithms.arguments import (
    MEANINGLESS,
    METHODS,
    REFUSED,
    USED,
    arguments_of,
    value_of,
)

TABLES = (USED, REFUSED, MEANINGLESS)


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
    if sizes == [] or key not in HAPPOConfig.model_defaults:
        pytest.skip("no layers are allowed; not every algorithm has both")
    with pytest.raises(ValueError, match=rf"`{key}` is .*whole numbers above 0.*model_config="):
        happo().rl_module(model_config={key: sizes}).build_algo()


def test_numbers_of_numpy_are_numbers():
    # Those that a search draws, say.
    happo().training(
        lr=np.float32(1e-3), num_epochs=np.int64(2), grad_clip=np.float64(3)
    ).validate()


def test_gpus_that_are_not_there(ray_local):
    config = happo().learners(num_learners=1, num_gpus_per_learner=1)
    with pytest.raises(TeamError, match=r"num_gpus_per_learner=1\): this Ray cluster has no GPU"):
        config.build_algo()
    assert not ray.cluster_resources().get("GPU")


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
