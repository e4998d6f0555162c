"""Config files and `--set`: what is read, and what is refused before Ray starts."""

import re
from argparse import Namespace
from pathlib import Path

import pytest

from rllib_hetero import HAPPO, HATRPOConfig, MAPPOConfig
from rllib_hetero.cli.config_file import parse, read_yaml
from rllib_hetero.cli.ending import InputError
from rllib_hetero.cli.request import make_config
from rllib_hetero.cli.settings import check, keys_of, merge

CLIMBING = {"game": "climbing"}

YAML = """
algo: MAPPO
environment:
  env: matrix_game
  env_config: {game: climbing}
env_runners:
  num_env_runners: 0
  num_envs_per_env_runner: 4
training:
  lr: 3e-4
  train_batch_size_per_learner: 40
rl_module:
  model_config: {hidden_sizes: [8], activation: tanh}
"""

PYTHON = """
from rllib_hetero import HATRPOConfig

config = (
    HATRPOConfig()
    .environment("matrix_game", env_config={"game": "climbing"})
    .rl_module(model_config={"hidden_sizes": [8], "activation": "tanh"})
)
"""


def request(**given):
    nothing = {
        "algo": None, "env": None, "env_config": None, "config": None, "seed": None, "set": [],
    }  # fmt: skip
    return Namespace(**{**nothing, **given})


def on_climbing(*overrides, **given):
    return make_config(
        request(algo="HAPPO", env="matrix_game", env_config=CLIMBING, set=list(overrides), **given)
    )


def refusal(*overrides, **given):
    with pytest.raises(InputError) as caught:
        on_climbing(*overrides, **given)
    return str(caught.value)


@pytest.fixture
def written(tmp_path):
    def write(name, text) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


# ---- YAML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4), ("-1E+2", -100.0), (".5e1", 5.0), ("0.1", 0.1), ("3", 3), ("1e", "1e"),
        ("true", True), ("null", None), ("[64, 64]", [64, 64]), ("none", "none"),
    ],
)  # fmt: skip
def test_values(text, value):
    assert parse(text) == value and type(parse(text)) is type(value)


def test_yaml_makes_no_python_objects(written):
    path = written("a.yaml", "training: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="is not YAML"):
        read_yaml(path)


def test_a_key_given_twice_is_refused(written):
    with pytest.raises(InputError, match="'lr' is given twice"):
        read_yaml(written("a.yaml", "training:\n  lr: 1\n  lr: 2\n"))


def test_a_file_of_sections(written):
    config = make_config(request(config=written("a.yaml", YAML)))
    assert isinstance(config, MAPPOConfig)
    assert (config.env, config.env_config) == ("matrix_game", CLIMBING)
    assert (config.lr, config.num_envs_per_env_runner) == (3e-4, 4)
    assert config.model_config["hidden_sizes"] == [8]


def test_the_command_line_goes_over_the_file(written):
    config = make_config(
        request(
            algo="happo",
            config=written("a.yaml", YAML),
            env_config={"game": "penalty", "penalty": -50},
            seed=7,
            set=["training.lr=1e-3", "rl_module.model_config.hidden_sizes=[16, 16]"],
        )
    )
    assert config.algo_class is HAPPO
    assert config.env_config == {"game": "penalty", "penalty": -50}
    assert (config.lr, config.seed) == (1e-3, 7)
    assert config.model_config == {"hidden_sizes": [16, 16], "activation": "tanh"}


# ---- Python -------------------------------------------------------------------------------------


def test_a_python_file(written):
    path = written("a.py", PYTHON)
    config = make_config(
        request(config=path, set=["rl_module.model_config.hidden_sizes=[4]", "training.lr=1e-3"])
    )
    assert isinstance(config, HATRPOConfig)
    assert config.model_config == {"hidden_sizes": [4], "activation": "tanh"}
    with pytest.raises(InputError, match="is for HATRPO"):
        make_config(request(config=path, algo="HAPPO"))


def test_a_python_file_with_a_function(written):
    function = PYTHON.replace("config = (", "def make_config():\n  return (")
    assert isinstance(make_config(request(config=written("a.py", function))), HATRPOConfig)


@pytest.mark.parametrize("text", ["", "config = 3", "config = {}"])
def test_a_python_file_without_a_config(written, text):
    with pytest.raises(InputError, match="must define `config`"):
        make_config(request(config=written("a.py", text)))


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainig.lr=1", "no section 'trainig'; did you mean 'training'"),
        ("training.clip_parm=1", "'training.clip_parm'; did you mean 'clip_param'"),
        ("training.num_learners=1", "it belongs to 'learners'"),
        ("env_runners.env_runner_cls=os.system", "a Python object"),
        ("evaluation.evaluation_config={explor: true}", "did you mean 'explore'"),
        ("environment.env=matrix_gam", "did you mean 'matrix_game'"),
        ("training.lr", "write --set section.key=value"),
        ("training.lr.a.b=1", "`lr` is .* must be a number"),
        ("training=1", "write --set section.key=value"),
        ("training.update_order=sideways", "update_order"),
        ("rl_module.model_config.hidden=[8]", "hidden_sizes"),
        ("environment.env_config.game=chess", "climbing"),
        ("training.clip_param=[1", "--set training.clip_param"),
    ],
)
def test_refusals_name_the_nearest_name(override, message):
    assert re.search(message, refusal(override))


def test_names_that_do_not_exist():
    assert "did you mean 'HAPPO'" in _message(algo="HAPO", env="matrix_game")
    assert "did you mean 'matrix_game'" in _message(algo="HAPPO", env="matrixgame")
    assert "cannot be imported" in _message(algo="HAPPO", env="nowhere:Env")
    assert "no algorithm is named" in _message(env="matrix_game")
    assert "no such file" in _message(config=Path("nowhere.py")).lower()
    assert "No such file" in _message(config=Path("nowhere.yaml"))
    assert "must end in .yaml" in _message(config=Path("a.toml"))
    assert "No environment is set" in _message(algo="HAPPO")


def _message(**given):
    with pytest.raises(InputError) as caught:
        make_config(request(**given))
    return str(caught.value)


def test_the_keys_of_parents_are_known_and_deprecated_ones_are_not():
    keys = keys_of(type(HAPPO.get_default_config()), "training")
    assert {"update_order", "clip_param", "lr"} <= set(keys)
    assert "kwargs" not in keys and "self" not in keys
    faults = keys_of(MAPPOConfig, "fault_tolerance")
    assert "restart_failed_env_runners" in faults
    assert "recreate_failed_env_runners" not in faults
    with pytest.raises(InputError, match="update_order"):
        check(MAPPOConfig, {"training": {"update_order": "random"}})


def test_merging_goes_into_dicts():
    settings = {"environment": {"env_config": {"a": {"b": 1, "c": 2}}}}
    merge(settings, "environment", "env_config.a.b", 3)
    merge(settings, "training", "lr", 4)
    assert settings == {
        "environment": {"env_config": {"a": {"b": 3, "c": 2}}},
        "training": {"lr": 4},
    }
    with pytest.raises(InputError, match="does not hold settings"):
        merge(settings, "training", "lr.x", 5)
