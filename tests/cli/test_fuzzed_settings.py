"""Any value of any setting: a config that is valid, or one line that names the setting."""

import logging
import random
from argparse import Namespace

import pytest

from rllib_hetero import ALGORITHMS
from rllib_hetero.algorithms.arguments import arguments_of
from rllib_hetero.cli import main
from rllib_hetero.cli.ending import BAD_INPUT, InputError
from rllib_hetero.cli.request import make_config
from rllib_hetero.cli.settings import SECTIONS, keys_of

VALUES = (
    "null", "true", "x", "''", "auto", '"\\0"', "'1'", "2020-01-01", "!!binary aGk=",
    "!!set {a, b}",
    "-5", "-1", "0", "1", "-1.0", "-0.1", "0.5", "1.5", ".nan", ".inf", "-.inf", "1e30",
    "123456789123", "1000000000000000000000000",
    "[]", "[[]]", "[null]", "[1, 2]", "[a, b]", "[1, [2, [x]]]",
    "[[0, 0.1], [100, 0.0]]", "[[0, 1.0], [100, x]]", "[[5, 1e-3]]", "[[0, .nan], [1, 0.1]]",
    "{}", "{a: 1}", "{1: 2}", "{a: {b: [null]}}",
)  # fmt: skip


def settings_of(config):
    """Every setting that `--set` may name, those in dicts included."""
    found = [f"{s}.{key}" for s in SECTIONS for key in keys_of(type(config), s)]
    found += [f"rl_module.model_config.{key}" for key in config.model_defaults]
    replay = getattr(config, "replay_buffer_config", {})
    return found + [f"training.replay_buffer_config.{key}" for key in replay]


def wrong_answers(algo, cases):
    """Those of (setting, value) that are answered by anything else."""
    found = []
    for setting, value in cases:
        args = Namespace(
            algo=algo, env="matrix_game", env_config={"game": "climbing"}, config=None, seed=None,
            set=[f"{setting}={value}"],
        )  # fmt: skip
        try:
            make_config(args)
        except InputError as problem:
            text, key = str(problem), setting.split(".")[-1]
            if key not in text or "\n" in text:
                found.append(f"{setting}={value}: {text}")
        except Exception as problem:
            found.append(f"{setting}={value}: {type(problem).__name__}: {problem}")
    return found


@pytest.fixture(autouse=True)
def silence():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_any_value_of_any_setting():
    rng = random.Random(1)
    for algo, count in (("HAPPO", 250), ("HASAC", 60), ("QMIX", 60), ("F2A2COMA", 60)):
        settings = settings_of(ALGORITHMS[algo].get_default_config())
        cases = [(rng.choice(settings), rng.choice(VALUES)) for _ in range(count)]
        assert wrong_answers(algo, cases) == []


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_value_of_every_setting(algo):
    config = ALGORITHMS[algo].get_default_config()
    settings = settings_of(config)
    if algo != "HAPPO":  # RLlib's are alike in all
        own = {f"{a.method}.{a.name}" for a in arguments_of(type(config), SECTIONS) if a.ours}
        settings = [s for s in settings if s in own or s.count(".") == 2]
    assert wrong_answers(algo, [(s, v) for s in settings for v in VALUES]) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env_runners.num_envs_per_env_runner=null", "`num_envs_per_env_runner` is None"),
        ("environment.env_config=3", "`env_config` is 3, but must be a dict"),
        ("environment.env=[]", "no environment []"),
        ("training.critic_lr=[a, b]", "`critic_lr` is ['a', 'b'], but must be"),
        ("training.lr=[[0, 1.0], [100, x]]", "`lr` is [[0, 1.0], [100, 'x']], but must be"),
        ("training.update_order=[[]]", "`update_order` is [[]]; use"),
        ("training.clip_param=1000000000000000000000000", "must be at most"),
        ("multi_agent.policies_to_train={}", "`policies_to_train` is {}, but must be a list"),
        ("multi_agent.parameter_sharing=null", "`parameter_sharing` is None"),
        ("learners.custom_resources_per_learner={a: x}", "`custom_resources_per_learner` is"),
        ("fault_tolerance.max_num_env_runner_restarts=.nan", "must be a finite number"),
        ("evaluation.evaluation_duration_unit=hours", "one of 'episodes', 'timesteps'"),
        ("framework.framework=tf2", "`framework` is 'tf2', but must be one of 'torch'"),
        ("debugging.seed=4294967296", "must be at most 4,294,967,295"),
        ("rl_module.model_config=true", "`model_config` is True, but must be a dict"),
        ("rl_module.model_config.activation=gelu", "`activation` is 'gelu', but must be one of"),
        ("rl_module.model_config.std_y=-1", "`std_y` is -1, but must be a number above 0"),
        ("rl_module.model_config.recurrent=[]", "`recurrent` is []"),
        ("rl_module.model_config.hidden_sizes=[2]", "a sign; `hidden_sizes` are [2]"),
    ],
)
def test_it_ends_with_one_line(capsys, override, message):
    given = ["train", "--algo", "HAPPO", "--env", "matrix_game", "--env-config"]
    assert main([*given, '{"game": "climbing"}', "--set", override]) == BAD_INPUT
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(said) == 1 and message in said[0]
