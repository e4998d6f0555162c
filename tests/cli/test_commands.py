"""The commands from end to end, on a matrix game: train, SIGTERM, resume, evaluate."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rllib_hetero import cli
from rllib_hetero.cli.ending import print_result

ROOT = Path(__file__).parents[2]
SETTINGS = """
algo: HAPPO
environment: {env: matrix_game, env_config: {game: climbing}}
env_runners: {num_env_runners: 0, num_envs_per_env_runner: 4}
training: {train_batch_size_per_learner: 200, num_epochs: 1}
rl_module: {model_config: {hidden_sizes: [8]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def started(folder):
    """Starts a command in a process and a Ray of its own."""
    ray_folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short, for Ray's sockets
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    ours = {"PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": ray_folder}
    env = {**os.environ, **ours}
    env.pop("RAY_ADDRESS", None)

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
        )

    yield start
    shutil.rmtree(ray_folder, ignore_errors=True)


def table_of(run):
    with open(run / "progress.csv", newline="") as file:
        return [(int(row["iteration"]), int(row["env_steps"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def stopped(folder, started):
    """What a run printed that SIGTERM ended after its second iteration, and its exit code."""
    (folder / "happo.yaml").write_text(SETTINGS)
    arguments = ["--config", "happo.yaml", "--seed", "1", "--env-steps", "1e9", "--out", "run"]
    with started(str(ROOT / "cluster" / "train.py"), "train", *arguments) as process:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.lstrip().startswith("400/1,000,000,000"):
                process.terminate()
        process.wait(timeout=600)
    return printed, process.returncode


def test_sigterm_writes_a_checkpoint_and_says_so(stopped, folder):
    printed, code = stopped
    result = json.loads(printed[-1])
    assert code == 128 + signal.SIGTERM
    assert (result["status"], result["algo"], result["env"]) == ("stopped", "HAPPO", "matrix_game")
    assert result["env_steps"] == table_of(folder / "run")[-1][1] >= 400
    assert Path(result["checkpoint"], "rllib_checkpoint.json").exists()


def test_a_resumed_run_goes_on_at_the_same_step(stopped, folder, started):
    at = json.loads(stopped[0][-1])["env_steps"]
    run = folder / "run"
    # As if the process had gone on for an iteration and a half, and then been killed.
    text = (run / "progress.csv").read_text()
    row = text.splitlines()[-1].split(",", 2)
    ahead = f"{int(row[0]) + 1},{at + 200},{row[2]}\n"
    (run / "progress.csv").write_text(f"{text}{ahead}{ahead[:5]}")
    with started("-m", "rllib_hetero", "resume", "run", "--env-steps", str(at + 400)) as process:
        printed, _ = process.communicate(timeout=600)
    lines = printed.splitlines()
    assert process.returncode == 0
    assert f"going on from the checkpoint at {at:,} steps; 200 steps after it" in lines[0]
    assert json.loads(lines[-1])["env_steps"] == at + 400
    steps = range(200, at + 401, 200)
    assert table_of(run) == list(enumerate(steps, 1))
    record = json.loads((run / "run.json").read_text())
    assert record["target_env_steps"] == at + 400
    assert [r["env_steps"] for r in record["resumed"]] == [at]
    assert record["resumed"][0]["lost_env_steps"] == 200


def test_a_checkpoint_is_evaluated_without_ray(stopped, folder, capsys):
    for given in (folder / "run", folder / "run" / "checkpoint"):
        assert cli.main(["evaluate", str(given), "--episodes", "5"]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        # Greedy policies, a deterministic game: all episodes are alike.
        assert result["return_mean"] in {11.0, -30.0, 0.0, 7.0, 6.0, 5.0}
        assert result["return_std"] == 0 and result["episodes"] == 5
        assert result["episode_len_mean"] == 1


def test_bad_input_is_told_before_anything_starts(stopped, folder, capsys):
    def said(*arguments):
        assert cli.main(list(map(str, arguments))) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    on_game = ["--algo", "HAPPO", "--env", "matrix_game", "--env-config", '{"game": "climbing"}']
    assert "holds a run already" in said("train", *on_game, "--out", folder / "run")
    assert "did you mean 'lr'" in said("train", *on_game, "--set", "training.lrr=1")
    assert "run.json is missing" in said("resume", folder)
    assert "name the environment" in said("evaluate", folder)
    for arguments in (["train", "--env-steps", "0"], ["evaluate"], ["fly"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2


def test_a_failed_training_ends_with_3_and_a_result(tmp_path, monkeypatch, capsys):
    from rllib_hetero.cli import train

    def fails(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train, "run_training", fails)
    arguments = ["train", "--algo", "HAPPO", "--env", "matrix_game", "--out", str(tmp_path / "a")]
    assert cli.main([*arguments, "--env-config", '{"game": "climbing"}']) == 3
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["status"] == "failed" and "No space left" in result["error"]
    assert result["checkpoint"] is None


def test_the_result_line_is_json_whatever_the_numbers(capsys):
    print_result({"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": "x"}
