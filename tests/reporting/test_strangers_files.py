"""A stranger's run, with code in every pickle: which calls execute it, and which do not."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from rllib_hetero import HAPPOConfig, TeamError, cli, load_policies
from rllib_hetero.envs import register_environments
from rllib_hetero.reporting import run_training
from rllib_hetero.reporting.curve import read_column
from rllib_hetero.reporting.resume import resume_training
from rllib_hetero.reporting.run_folders import read_run


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def trained(ray_local, tmp_path_factory):
    register_environments()  # an earlier Ray of this process took the names with it
    config = (
        HAPPOConfig()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        .rl_module(model_config={"hidden_sizes": [8]})
        .training(train_batch_size_per_learner=200, num_epochs=1)
        .debugging(seed=1)
    )
    return run_training(config, env_steps=400, out=tmp_path_factory.mktemp("run") / "a").folder


@pytest.fixture
def mark(tmp_path):
    """The file that a trap makes."""
    return tmp_path / "executed"


@pytest.fixture
def trapped(trained, tmp_path, mark):
    """The run, every pickle in it replaced by a trap, and pickles where none are expected."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    pickles = list(folder.rglob("*.pkl"))
    assert len(pickles) >= 5
    for path in pickles:
        path.write_bytes(pickle.dumps(Trap(mark)))
    for place in (folder, folder / "checkpoint" / "policies"):
        (place / "params.pkl").write_bytes(pickle.dumps(Trap(mark)))
    return folder


def test_a_resume_executes_it(trapped, mark):
    """Which is why `resume` is for runs that one trusts; and the trap works."""
    with pytest.raises(Exception):  # noqa: B017  (whatever Ray makes of it)
        resume_training(trapped, env_steps=600)
    assert mark.exists()


def test_from_checkpoint_executes_it(trapped, mark):
    from ray.rllib.algorithms.algorithm import Algorithm

    with pytest.raises(Exception):  # noqa: B017
        Algorithm.from_checkpoint(str(trapped / "checkpoint"))
    assert mark.exists()


def test_tuner_restore_executes_it(tmp_path, mark):
    (tmp_path / "tuner.pkl").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(Exception):  # noqa: B017
        ray.tune.Tuner.restore(str(tmp_path), trainable="HAPPO")
    assert mark.exists()


def test_policies_are_loaded_without(trapped, mark):
    policies = load_policies(trapped / "checkpoint")
    seen = {agent: np.ones(1, np.float32) for agent in policies.agents}
    assert set(policies.act(seen)) == {"player_0", "player_1"}
    assert not mark.exists()


def test_the_command_evaluate_does_without(trapped, mark, capsys):
    assert cli.main(["evaluate", str(trapped), "--episodes", "2"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 2
    assert not mark.exists()


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_weights_that_are_no_weights_are_refused(how, trapped, mark):
    weights = trapped / "checkpoint" / "policies" / "player_0.pt"
    assert weights.exists()
    if how == "torch.save":
        torch.save({"weight": Trap(mark)}, weights)
    else:
        weights.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(TeamError, match=r"player_0.pt holds no weights"):
        load_policies(trapped / "checkpoint")
    assert not mark.exists()


def test_a_class_that_the_file_names_is_not_imported(trapped, mark, monkeypatch):
    team = trapped / "checkpoint" / "policies" / "team.json"
    description = json.loads(team.read_text())
    description["modules"]["player_0"]["class"] = "strangers_module:Policy"
    team.write_text(json.dumps(description))
    (trapped / "strangers_module.py").write_text(f"open({str(mark)!r}, 'w')\nclass Policy: ...\n")
    monkeypatch.syspath_prepend(str(trapped))
    with pytest.raises(TeamError, match="strangers_module"):
        load_policies(trapped / "checkpoint")
    assert not mark.exists()


def test_a_run_is_read_for_a_report_without(trapped, mark):
    run = read_run(trapped, "env_runners/episode_return_mean")
    assert (run.algo, run.task, run.seed) == ("HAPPO", "climbing", "1")
    assert run.steps.tolist() == [200, 400]
    assert len(read_column(trapped / "progress.csv", "env_steps")[0]) == 2
    assert not mark.exists()


def test_the_command_report_does_without(trapped, mark, tmp_path):
    pytest.importorskip("rliable")
    assert cli.main(["report", str(trapped), "--out", str(tmp_path / "report")]) == 0
    assert "HAPPO" in (tmp_path / "report" / "results.md").read_text()
    assert not mark.exists()
