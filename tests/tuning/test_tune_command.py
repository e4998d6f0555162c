"""The command `tune` from end to end, on a matrix game; and after its driver was killed."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rllib_hetero import cli, load_policies

ROOT = Path(__file__).parents[2]
BATCH = 100
SETTINGS = f"""
environment: {{env: matrix_game, env_config: {{game: climbing}}}}
env_runners: {{num_env_runners: 0, num_envs_per_env_runner: 4}}
training: {{train_batch_size_per_learner: {BATCH}, num_epochs: 1}}
rl_module: {{model_config: {{hidden_sizes: [8]}}}}
"""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "game.yaml").write_text(SETTINGS)
    return ["--config", str(tmp_path / "game.yaml")]


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_four_trials_of_two_algorithms(ray_local, settings, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        "tune", *settings, "--algo", "HAPPO", "--algo", "HATRPO", "--num-samples", "2",
        "--env-steps", str(2 * BATCH), "--scheduler", "asha", "--out", str(out),
    ]  # fmt: skip
    assert cli.main([*arguments, "--space", "lr=loguniform(1e-4, 1e-2)"]) == 0
    said = last_line(capsys)
    assert (said["status"], said["trials"], said["failed_trials"]) == ("done", 4, 0)
    assert said["lost_env_steps"] == 0
    assert [best["algo"] for best in said["best"]] == ["HAPPO", "HATRPO"]
    rows = rows_of(said["csv"])
    assert [row["algorithm"] for row in rows] == ["HAPPO"] * 2 + ["HATRPO"] * 2
    for row in rows:
        assert int(row["steps"]) in (BATCH, 2 * BATCH)  # ASHA may stop at the first
        assert 1e-4 <= float(row["lr"]) <= 1e-2 and -30 <= float(row["final"]) <= 11
        assert re.fullmatch(r"(HAPPO|HATRPO)-s1-\w+", Path(row["folder"]).name)
    for best in said["best"]:
        load_policies(best["checkpoints"][0])
    table = Path(said["table"]).read_text()
    assert "| climbing | HAPPO | 2 | 2 | lr" in table
    # A study that is done is not trained again.
    assert cli.main([*arguments, "--space", "lr=loguniform(1e-4, 1e-2)", "--resume"]) == 0
    again = last_line(capsys)
    assert again["best"] == said["best"] and rows_of(said["csv"]) == rows


@pytest.mark.slow
def test_optuna_is_told_the_mean_over_seeds(ray_local, settings, tmp_path, capsys):
    pytest.importorskip("optuna")
    pytest.importorskip("rliable")
    arguments = [
        "tune", *settings, "--algo", "HAPPO", "--num-samples", "2", "--seeds", "3,4",
        "--search", "optuna", "--env-steps", str(BATCH), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    said = last_line(capsys)
    rows = rows_of(said["csv"])
    by_lr = {row["lr"]: sorted(r["seed"] for r in rows if r["lr"] == row["lr"]) for row in rows}
    assert list(by_lr.values()) == [["3", "4"]] * 2
    assert said["best"][0]["seeds"] == [3, 4]


def test_a_failed_trial_is_told(ray_local, settings, tmp_path, capsys):
    arguments = [
        "tune", *settings, "--algo", "HAPPO", "--space", "none", "--max-failures", "0",
        # Refused by the first update, and not by the config.
        "--set", "training.lr=1e30", "--env-steps", str(5 * BATCH), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert cli.main(arguments) == 3
    said = last_line(capsys)
    assert (said["status"], said["failed_trials"], said["best"]) == ("failed", 1, [])
    assert "NonFiniteUpdateError" in said["error"]


def test_bad_input_is_told_before_ray_starts(settings, tmp_path, capsys):
    def said(*arguments):
        out = str(tmp_path / "out")
        assert cli.main(["tune", *settings, "--algo", "HAPPO", "--out", out, *arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and not (tmp_path / "out").exists()
        return printed.err

    assert "did you mean 'clip_param'" in said("--space", "clip_parm=uniform(0, 1)")
    assert "says no range" in said("--space", "lr=3")
    assert "both fixed" in said("--space", "lr=[1e-3]", "--set", "training.lr=1e-3")
    assert "PBT needs a population" in said("--scheduler", "pbt")
    assert "there is no algorithm" in said("--algo", "HAPO")
    assert "given twice" in said("--algo", "happo")
    for wrong in (["--seeds", "1;2"], ["--scheduler", "fifo"], ["--num-samples", "0"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(["tune", "--out", "x", *wrong])
        assert caught.value.code == 2


# ---- the driver ends ----------------------------------------------------------------------------


@pytest.fixture
def started(tmp_path):
    """Starts `tune` in a process and a Ray of its own."""
    ray_folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short, for Ray's sockets
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": ray_folder}
    env.pop("RAY_ADDRESS", None)

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "rllib_hetero", "tune", *arguments],
            cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    yield start
    shutil.rmtree(ray_folder, ignore_errors=True)


def reached(out):
    files = list(out.glob("*.reached.json"))
    return json.loads(files[0].read_text()) if files else {}


def wait_until(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--search", "optuna"]], ids=str)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_goes_on_after_its_driver_ended(number, more, started, settings, tmp_path):
    # Half of the trials are yet to be drawn when the driver ends.
    out, every, steps, trials = tmp_path / "out", 2, 60 * BATCH, 4
    arguments = [
        *settings, "--algo", "HAPPO", "--num-samples", str(trials), "--max-concurrent", "2",
        "--env-steps", str(steps), "--checkpoint-every", str(every), "--out", str(out),
        "--resume", *more,
    ]  # fmt: skip
    with started(*arguments) as process:
        wait_until(
            lambda: (
                len(reached(out)) == 2
                and all(trial["reached"] >= 20 * BATCH for trial in reached(out).values())
            ),
            process,
        )
        process.send_signal(number)
        printed, _ = process.communicate(timeout=600)
    before = reached(out)
    assert all(trial["reached"] < steps for trial in before.values())
    if number == signal.SIGTERM:
        assert process.returncode == 128 + number
        assert json.loads(printed.splitlines()[-1])["status"] == "stopped"

    with started(*arguments) as process:
        printed, _ = process.communicate(timeout=600)
    said = json.loads(printed.splitlines()[-1])
    assert process.returncode == 0 and said["failed_trials"] == 0
    assert [int(row["steps"]) for row in rows_of(said["csv"])] == [steps] * trials
    lost = dict.fromkeys(before, 0)
    pattern = r"HAPPO-s1-(\w+): goes on from ([\d,]+) steps, ([\d,]+) are trained again"
    for trial, start, again in re.findall(pattern, printed):
        start, again = (int(number.replace(",", "")) for number in (start, again))
        assert start % (every * BATCH) == 0  # at a checkpoint
        lost[trial] = before[trial]["reached"] - start
        assert lost[trial] == again
    print("reached", before, "lost", lost)
    # Tune saves its state at the latest when two checkpoints are not in it yet, and keeps two.
    assert all(0 <= steps <= 4 * every * BATCH for steps in lost.values())
    assert said["lost_env_steps"] == sum(lost.values())
