"""A disk that is full: a run goes on, and loses nothing; at its end it is an error."""

import signal
import time
from contextlib import contextmanager, suppress

import pytest
from fault_tools import can_mount, fill, seen_by, small_disk, steps_of, table_of
from struck import BATCH, resume, train

from rllib_hetero import load_policies

pytestmark = [
    # What a checkpoint does that cannot be written is tested in tests/cli, without a disk.
    pytest.mark.slow,
    pytest.mark.skipif(not can_mount(), reason="a disk of its own needs root and mount namespaces"),
]


@contextmanager
def on_a_small_disk(folder):
    """A training of three iterations so far on a disk of its own, and that disk as seen from here.

    At the end of the command the run is copied to `folder / "run"`.
    """
    disk = folder / "disk"
    disk.mkdir()
    before = small_disk(disk, folder / "run", megabytes=4)
    with train(folder, "--checkpoint-every", BATCH, run=disk / "run", before=before) as command:
        seen = seen_by(command.process, disk)
        command.wait_until(lambda: steps_of(seen / "run") >= 3 * BATCH)
        yield command, seen


def test_a_full_disk_is_told_and_survived(tmp_path):
    with on_a_small_disk(tmp_path) as (command, seen):
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
    steps = [row["env_steps"] for row in table_of(tmp_path / "run")]
    assert steps == [i * BATCH for i in range(1, len(steps) + 1)]
    assert resume(tmp_path, BATCH)["lost_env_steps"] == 0


def test_a_disk_that_is_full_at_the_end_is_an_error(tmp_path):
    with on_a_small_disk(tmp_path) as (command, seen):
        told = "checkpoint was NOT written"
        command.wait_until(lambda: fill(seen) and told in command.log.read_text())
        command.driver().send_signal(signal.SIGTERM)
        with suppress(OSError):  # the disk goes when the process does
            while command.process.poll() is None:
                fill(seen)
                time.sleep(0.005)
        assert command.end() == 3
        said = command.result()
    assert said["status"] == "failed"
    assert said["checkpoint"] == str(tmp_path / "disk" / "run" / "checkpoint")
    assert resume(tmp_path, BATCH)["env_steps"] >= 2 * BATCH
