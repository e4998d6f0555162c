"""Drivers, learners, nodes and disks that fail in the middle of a run: what is lost, to the step.

What the runners survive is tested in tests/runners/test_failures.py and test_hanging.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fault_tools import (
    LEARNER,
    ROOT,
    Command,
    can_mount,
    fill,
    resumed,
    seen_by,
    small_disk,
    steps_of,
    table_of,
)

from rllib_hetero import load_policies

BATCH = 200
SETTINGS = f"""
algo: HAPPO
environment: {{env: matrix_game, env_config: {{game: climbing}}}}
env_runners: {{num_env_runners: 0, num_envs_per_env_runner: 4}}
training: {{train_batch_size_per_learner: {BATCH}, num_epochs: 1}}
rl_module: {{model_config: {{hidden_sizes: [8]}}}}
debugging: {{seed: 1}}
"""


def train(folder, *more, steps="1e9", run=None, before=()):
    (folder / "game.yaml").write_text(SETTINGS)
    return Command(
        "train", "--config", folder / "game.yaml", "--env-steps", steps,
        "--out", run or folder / "run", *more, log=folder / "train.log", before=before,
    )  # fmt: skip


def resume(folder, more_steps):
    """Resumes for so many steps; returns what `run.json` says of it."""
    run = folder / "run"
    target = steps_of(run) + more_steps
    with Command("resume", run, "--env-steps", target, log=folder / "resume.log") as command:
        assert command.end() == 0, command.log.read_text()[-3000:]
        assert command.result()["env_steps"] == target
    table = [(row["iteration"], row["env_steps"]) for row in table_of(run)]
    assert table == [(i, i * BATCH) for i in range(1, len(table) + 1)]
    assert table[-1][1] == target
    return resumed(run)


@pytest.mark.timeout(200)
def test_a_killed_driver_loses_what_came_after_the_checkpoint(tmp_path):
    run, every = tmp_path / "run", 10 * BATCH
    with train(tmp_path, "--checkpoint-every", every) as command:
        command.freeze_when(lambda: steps_of(run) > every and steps_of(run) % every)
        command.kill()
        assert command.process.returncode == -signal.SIGKILL
    last = steps_of(run)
    again = resume(tmp_path, 2 * BATCH)
    assert again["env_steps"] == last // every * every
    assert again["lost_env_steps"] == last % every > 0


@pytest.mark.timeout(200)
def test_a_driver_killed_while_it_writes_a_checkpoint_has_the_one_before(tmp_path):
    run, every = tmp_path / "run", 3 * BATCH
    whole, half = run / "checkpoint", run / "checkpoint.new"
    with train(tmp_path, "--checkpoint-every", every) as command:
        command.wait_until(lambda: steps_of(run) >= 2 * every - BATCH)
        command.freeze_when(lambda: whole.exists() and half.exists())
        command.kill()
    last = steps_of(run)
    assert last >= 2 * every and last % every == 0
    again = resume(tmp_path, BATCH)
    assert again["env_steps"] == last - every
    assert again["lost_env_steps"] == every
    assert not half.exists()


@pytest.mark.timeout(250)
def test_a_killed_learner_ends_the_run_and_resume_goes_on(tmp_path):
    run, every = tmp_path / "run", 10 * BATCH
    more = ["--set", "learners.num_learners=1", "--checkpoint-every", every]
    with train(tmp_path, *more) as command:
        command.wait_until(lambda: steps_of(run) >= 12 * BATCH)
        command.member(LEARNER).kill()
        assert command.end() == 3
        said = command.result()
    assert said["status"] == "failed" and "Actor" in said["error"]
    assert Path(said["checkpoint"]) == run / "checkpoint"
    last = steps_of(run)
    again = resume(tmp_path, BATCH)
    assert again["env_steps"] == last // every * every
    assert again["lost_env_steps"] == last % every


@pytest.mark.timeout(250)
@pytest.mark.skipif(not can_mount(), reason="a disk of its own needs root and mount namespaces")
def test_a_full_disk_is_told_and_survived(tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    before = small_disk(disk, kept, megabytes=4)
    with train(tmp_path, "--checkpoint-every", BATCH, run=disk / "run", before=before) as command:
        seen = seen_by(command.process, disk)
        command.wait_until(lambda: steps_of(seen / "run") >= 3 * BATCH)
        filler = fill(seen)
        for what in ("checkpoint", "progress.csv"):
            told = f"{what} was NOT written"
            command.wait_until(lambda told=told: fill(seen) and told in command.log.read_text())
        assert len(load_policies(seen / "run" / "checkpoint").agents) == 2
        rows = steps_of(seen / "run")
        filler.unlink()
        command.wait_until(lambda: steps_of(seen / "run") > rows + BATCH)
        command.driver().send_signal(signal.SIGTERM)
        assert command.end() == 128 + signal.SIGTERM
        said = command.result()
    assert said["status"] == "stopped" and said["failed_checkpoints"] >= 1
    # Nothing is lost, the rows of the time without room included.
    steps = [row["env_steps"] for row in table_of(kept)]
    assert steps == [i * BATCH for i in range(1, len(steps) + 1)]
    assert resume(tmp_path, BATCH)["lost_env_steps"] == 0


@pytest.mark.timeout(250)
@pytest.mark.skipif(not can_mount(), reason="a disk of its own needs root and mount namespaces")
def test_a_disk_that_is_full_at_the_end_is_an_error(tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    before = small_disk(disk, kept, megabytes=4)
    with train(tmp_path, "--checkpoint-every", BATCH, run=disk / "run", before=before) as command:
        seen = seen_by(command.process, disk)
        command.wait_until(lambda: steps_of(seen / "run") >= 3 * BATCH)
        told = "checkpoint was NOT written"
        command.wait_until(lambda: fill(seen) and told in command.log.read_text())
        command.driver().send_signal(signal.SIGTERM)
        with suppress(OSError):  # the disk goes when the process does
            while command.process.poll() is None:
                fill(seen)
                time.sleep(0.005)
        assert command.end() == 3
        said = command.result()
    assert said["status"] == "failed" and said["checkpoint"] == str(disk / "run" / "checkpoint")
    assert resume(tmp_path, BATCH)["env_steps"] >= 2 * BATCH


@pytest.mark.timeout(400)
def test_a_killed_node_is_replaced_by_one_that_joins(tmp_path):
    """In a process of its own: this one may have a Ray already."""
    script = ROOT / "tests" / "benchmarks" / "faults.py"
    arguments = ["--only", "node_killed", "--iterations", "40", "--out", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    env.pop("RAY_ADDRESS", None)
    start = time.monotonic()
    subprocess.run([sys.executable, str(script), *arguments], env=env, check=True, timeout=380)
    (row,) = json.loads((tmp_path / "faults.json").read_text())["rows"]
    # At most one fragment of the runner that was on the node.
    assert row["fault"] == "worker node killed" and 0 <= row["lost_steps"] <= 500
    assert row["restarts"] == 1 and row["went_on"] == "by itself"
    assert 0 < row["noticed_s"] < row["full_s"] < time.monotonic() - start
