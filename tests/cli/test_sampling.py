"""How the command line samples where nothing says otherwise."""

import pytest

from rllib_hetero import HAPPO, HASAC, COMAConfig
from rllib_hetero.cli.request import make_config
from rllib_hetero.cli.sampling import OTHERS, RECOMMENDED, SHORTEST, recommended
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero_cli.parser import make_parser


def sampling(algo, env, remote=True, **settings):
    found = recommended(algo.get_default_config(), env, settings, remote=remote)
    return found.get("num_env_runners"), found.get("num_envs_per_env_runner")


def test_each_environment_has_its_own():
    assert set(RECOMMENDED) == set(ENVIRONMENTS)
    for env, expected in RECOMMENDED.items():
        assert recommended(HAPPO.get_default_config(), env, {}, remote=True) == expected
    assert recommended(HAPPO.get_default_config(), object, {}, remote=True) == OTHERS


def test_a_fragment_is_not_too_short():
    assert sampling(HAPPO, "cooperative_mpe") == (2, 50)
    batch = {"train_batch_size_per_learner": 800}
    assert sampling(HAPPO, "cooperative_mpe", training=batch) == (2, 800 // SHORTEST // 2)
    assert sampling(COMAConfig().algo_class, "matrix_game") == (0, 1000 // SHORTEST)
    assert sampling(HAPPO, "mpe", training={"train_batch_size_per_learner": 10}) == (2, 1)
    assert sampling(HASAC, "cooperative_mpe") == (2, 10)


def test_what_is_given_stays():
    assert sampling(HAPPO, "mpe", env_runners={"num_env_runners": 0}) == (0, 20)
    assert sampling(HAPPO, "mpe", env_runners={"num_envs_per_env_runner": 3}) == (2, 3)
    fixed = {"rollout_fragment_length": 25}
    assert sampling(HAPPO, "mpe", env_runners=fixed) == (None, None)
    assert sampling(HASAC, "mpe", env_runners=fixed) == (2, 10)
    assert sampling(HAPPO, "mpe", remote=False) == (0, 20)


@pytest.mark.parametrize("algo", ["HAPPO", "HASAC"])
def test_mpe_alone_is_enough(algo):
    config = make_config(make_parser().parse_args(["train", "--algo", algo, "--env", "mpe"]))
    assert (config.num_env_runners, config.num_envs_per_env_runner) == (2, 10)


def test_a_python_file_says_it_itself(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "from rllib_hetero import HAPPOConfig\n"
        'config = HAPPOConfig().environment("matrix_game", env_config={"game": "climbing"})'
    )
    config = make_config(make_parser().parse_args(["train", "--config", str(path)]))
    assert (config.num_env_runners, config.num_envs_per_env_runner) == (0, 1)
