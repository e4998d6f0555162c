"""What `run.json` says a run was made with: whole, and the same from every process."""

import enum
import functools
import inspect
import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_hetero import ALGORITHMS, HAPPOConfig, HATRPOConfig
from rllib_hetero.cli.settings import SECTIONS, keys_of
from rllib_hetero.plain import as_plain, not_plain
from rllib_hetero.reporting.names import as_file_name, env_id, env_name, short_name, task_name
from rllib_hetero.reporting.record import record_of, settings_of


class Other:
    """Something that a config does not hold by itself."""


TRIED = (0.123, 7, True, False, "other", {"other": 1}, ["other"], Other, lambda *_: None)
ELSEWHERE = {"env", "env_config", "policies"}  # in the record, but not among the settings


def ours(config_class):
    """The fluent calls that this library defines: what they take, they take by `NotProvided`."""
    return {
        name
        for owner in config_class.__mro__
        if owner.__module__.startswith("rllib_hetero")
        for name, call in vars(owner).items()
        if inspect.isfunction(call)
        and not name.startswith("_")
        and any(p.default is NotProvided for p in inspect.signature(call).parameters.values())
    }


def forgotten(config_class, section, key):
    """Whether a call changes the config and the record does not tell; None if nothing changes."""
    changed, before = None, config_class()
    for value in TRIED:
        config = config_class()
        try:
            getattr(config, section)(**{key: value})
            told = settings_of(config)
        except Exception:  # no value for this setting
            continue
        if told != settings_of(before):
            return False
        changed = changed or as_plain(vars(before)) != as_plain(vars(config)) or None
    return changed


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_setting_of_an_algorithm_is_forgotten(name):
    config_class = type(ALGORITHMS[name].get_default_config())
    calls = ours(config_class)
    assert {"training", "multi_agent", "fault_tolerance"} <= calls
    for section in calls:
        own = [
            key
            for owner in config_class.__mro__
            if section in vars(owner) and owner.__module__.startswith("rllib_hetero")
            for key, p in inspect.signature(vars(owner)[section]).parameters.items()
            if p.default is NotProvided
        ]
        told = {key: forgotten(config_class, section, key) for key in own}
        assert {key for key, lost in told.items() if lost is not False} <= ELSEWHERE, section


def test_nor_is_one_of_rllibs():
    lost = {
        key
        for section in SECTIONS
        for key in keys_of(HAPPOConfig, section)
        if forgotten(HAPPOConfig, section, key)
    }
    assert lost <= ELSEWHERE, lost


def test_settings_as_the_algorithm_has_them_and_as_the_user_does():
    usual, other = settings_of(HATRPOConfig()), settings_of(HATRPOConfig().training(kl_threshold=1))
    assert {k for k in other if other[k] != usual[k]} == {"kl_threshold"}
    assert usual["lr"] == 5e-4 and usual["num_env_runners"] == 0 and usual["gamma"] == 0.99
    # RLlib's own default is not the algorithm's.
    assert settings_of(HATRPOConfig().training(lr=0.001))["lr"] == 0.001
    assert usual["model_config"]["hidden_sizes"] == HATRPOConfig.model_defaults["hidden_sizes"]
    assert "train_batch_size_per_learner" in usual and "layout" not in usual


def test_evaluation_settings_that_are_a_whole_config():
    def recorded(explore):
        inner = HAPPOConfig().env_runners(explore=explore)
        return settings_of(HAPPOConfig().evaluation(evaluation_config=inner))["evaluation_config"]

    assert recorded(False)["explore"] is False and recorded(False) != recorded(True)


class Colour(enum.Enum):
    RED = np.int64(3)


class Level(enum.IntEnum):
    HIGH = 2


@dataclass
class Sizes:
    hidden: tuple = (np.int64(4), 5)


def test_values_as_plain_data():
    plain = {
        "a": np.int64(10), "b": np.float32(0.5), "c": np.arange(3), "d": Colour.RED,
        "e": Level.HIGH, "f": Sizes(), "g": {Level.HIGH: np.bool_(True)}, "h": {3, 1},
        "i": torch.ones(2), np.str_("j"): np.str_("text"), "k": range(2),
        (1, "x"): None, "l": torch.float32,
    }  # fmt: skip
    told = as_plain(plain)
    assert json.loads(json.dumps(told)) == told == {
        "a": 10, "b": 0.5, "c": [0, 1, 2], "d": 3, "e": 2, "f": {"hidden": [4, 5]},
        "g": {"2": True}, "h": [1, 3], "i": [1.0, 1.0], "j": "text", "k": "range(0, 2)",
        "[1, 'x']": None, "l": "torch.float32",
    }  # fmt: skip
    assert type(told["a"]) is int and type(told["e"]) is int


def test_code_is_named_and_addresses_are_not():
    here = __name__
    assert as_plain(Other) == f"{here}:Other"
    assert as_plain([ours, functools.partial(ours, 1)])[1]["function"] == f"{here}:ours"
    assert as_plain(Other()) == {"class": f"{here}:Other"}
    spec = RLModuleSpec(module_class=Other, model_config={"n": np.int64(1)})
    assert as_plain(spec)["module_class"] == f"{here}:Other"
    loop = Other()
    loop.self = loop
    for value in (Other(), spec, lambda: 0, HAPPOConfig().training, loop):
        assert " at 0x" not in json.dumps(as_plain(value))


def test_what_does_not_come_back_as_it_was():
    given = {"n": np.int64(1), "x": [1, {"y": ours}], "e": Colour.RED, "l": Level.HIGH, "z": {0: 1}}
    assert list(not_plain(given, "m")) == ["m.x[1].y", "m.e", "m.z[0]"]


def test_a_record_with_numpy_everywhere():
    team = SimpleNamespace(reward_scheme="shared")
    layout = SimpleNamespace(groups={"0": (np.int64(0),)}, team=team)
    config = HAPPOConfig()
    config.environment(Other, env_config={"max_cycles": np.int64(10), "c": Colour.RED})
    config.rl_module(model_config={"hidden_sizes": [np.int64(64)]})
    config.layout = layout
    algo = SimpleNamespace(config=config)
    record = record_of(algo, env_steps=np.int64(5))
    assert json.loads(json.dumps(record)) == record
    assert record["env"] == f"{__name__}:Other"
    assert record["env_config"] == {"max_cycles": 10, "c": 3}
    assert record["modules"] == {"0": [0]} and record["target_env_steps"] == 5
    assert record["config"]["model_config"]["hidden_sizes"] == [64]


def make_env(config):
    return Other()


def test_names_of_environments():
    def local(config):
        return Other()

    assert [short_name(x) for x in ("mpe", Other, make_env, local, env_id(Other))] == [
        "mpe", "Other", "make_env", "local", "Other",
    ]  # fmt: skip
    assert short_name(lambda config: 0) == "lambda"
    assert env_name(Other, {"x": 1}) == "Other"
    assert task_name(Other, {"n": np.int64(2), "mode": Colour.RED}) == "Other (mode=3, n=2)"
    assert env_name("mpe", None) == env_name("mpe", {"scenario": "simple_spread"})
    assert task_name("matrix_game", {"game": "climbing", "length": 5}) == "climbing (length=5)"


def test_names_of_files():
    assert as_file_name("HAPPO-simple_spread-s7") == "happo-simple_spread-s7"
    assert as_file_name("../../etc/passwd") == "etc-passwd"
    assert as_file_name("\0\n/") == "unnamed" and len(as_file_name("x" * 300)) == 100
