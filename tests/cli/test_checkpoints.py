"""A checkpoint is whole or not there; a table fits its checkpoint."""

import errno
import logging
import math
import tracemalloc
from pathlib import Path

import pytest

from rllib_hetero.reporting import checkpoints
from rllib_hetero.reporting.checkpoints import Saver, Schedule, save, settle
from rllib_hetero.reporting.progress import ProgressFile


class Writer:
    """Writes a checkpoint of two files; the disk is full before the second if told so."""

    def __init__(self, text, *, disk_full=False):
        self.text, self.disk_full = text, disk_full

    def save_to_path(self, path, previous=None):
        Path(path).mkdir()
        (Path(path) / "a").write_text(self.text)
        if self.disk_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        (Path(path) / "b").write_text(self.text)


def content(checkpoint):
    return {file.name: file.read_text() for file in checkpoint.iterdir()}


def test_a_full_disk_leaves_the_previous_checkpoint_whole_and_gives_room_back(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    save(Writer("1"), checkpoint)
    with pytest.raises(OSError, match="No space left"):
        save(Writer("2", disk_full=True), checkpoint)
    assert content(checkpoint) == {"a": "1", "b": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    save(Writer("3"), checkpoint)
    assert content(checkpoint) == {"a": "3", "b": "3"}


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        ({"checkpoint": "1", "checkpoint.new": "half"}, "1"),  # ended while writing
        ({"checkpoint.old": "1", "checkpoint.new": "2"}, "2"),  # between the two renames
        ({"checkpoint": "2", "checkpoint.old": "1"}, "2"),  # before the old one was removed
        ({"checkpoint.new": "half"}, None),  # the very first
    ],
)
def test_wherever_a_process_ends_one_whole_checkpoint_is_found(tmp_path, there, kept):
    for name, text in there.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(text)
    assert settle(tmp_path / "checkpoint") is (kept is not None)
    assert {path.name: (path / "a").read_text() for path in tmp_path.iterdir()} == (
        {} if kept is None else {"checkpoint": kept}
    )


def test_training_goes_on_where_the_disk_is_full_and_tries_again(tmp_path, caplog, monkeypatch):
    checkpoint = tmp_path / "checkpoint"
    saver = Saver(checkpoint, Schedule(iterations=5), saved=None)
    full = Writer("x", disk_full=True)

    def after(iteration, algo):
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            saver.after(algo, iteration, iteration - 1, iteration)
        return caplog.text

    assert after(4, full) == "" and saver.failures == 0
    assert "NOT written: OSError" in (told := after(5, full)) and "there is none yet" in told
    assert saver.failures == 1 and list(tmp_path.iterdir()) == []
    # Not before a minute is over, as writing may take long; then whether one is due or not.
    assert after(6, Writer("6")) == "" and not checkpoint.exists()
    monkeypatch.setattr(checkpoints, "RETRY_S", -1.0)
    after(10, full)
    assert saver.failures == 2
    assert after(11, Writer("11")) == "" and content(checkpoint) == {"a": "11", "b": "11"}
    assert after(12, Writer("12")) == "" and content(checkpoint) == {"a": "11", "b": "11"}
    assert "whole one (iteration 11)" in after(15, full)
    # At the end nothing can be tried again later.
    with pytest.raises(OSError, match="No space left"):
        saver.at_the_end(full, 16)
    assert content(checkpoint) == {"a": "11", "b": "11"}
    saver.at_the_end(Writer("16"), 16)
    assert content(checkpoint) == {"a": "16", "b": "16"}


def test_a_checkpoint_of_the_last_iteration_is_not_written_twice(tmp_path):
    saver = Saver(tmp_path / "checkpoint", Schedule(steps=10), saved=0)
    saver.after(Writer("1"), 1, 0, 10)
    saver.at_the_end(Writer("again"), 1)
    assert content(tmp_path / "checkpoint") == {"a": "1", "b": "1"}


def test_rows_wait_until_the_disk_has_room(tmp_path, monkeypatch):
    path = tmp_path / "progress.csv"
    table = ProgressFile(path)
    table.write({"iteration": 1, "x": 0.5})
    whole = path.read_text()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        table.write({"iteration": 2, "x": 0.6})
        with pytest.raises(OSError, match="No space left"):
            table.complete()
    assert path.read_text() == whole
    table.write({"iteration": 3, "x": 0.7})
    assert path.read_text() == "iteration,x\n1,0.5\n2,0.6\n3,0.7\n"
    table.complete()
    assert [row["iteration"] for row in ProgressFile.rows_of(path)] == [1, 2, 3]


def test_when_checkpoints_are_due():
    assert not Schedule()
    by_steps = Schedule(steps=100)
    assert [by_steps.due(1, *x) for x in [(0, 99), (99, 100), (100, 199), (150, 420)]] == [
        False, True, False, True,
    ]  # fmt: skip
    by_iterations = Schedule(iterations=3)
    assert [by_iterations.due(i, 0, 1) for i in (1, 2, 3, 6)] == [False, False, True, True]


def test_a_table_is_reopened_at_the_checkpoint(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("iteration,env_steps,x\n1,40,\n2,80,0.5\n3,120,0.7\n4,16")
    assert ProgressFile.rows_of(path)[-1]["env_steps"] == 120
    table = ProgressFile.reopened(path, iterations=2)
    assert [row["env_steps"] for row in ProgressFile.rows_of(path)] == [40, 80]
    assert math.isnan(ProgressFile.rows_of(path)[0]["x"])
    assert table.last == {"iteration": 2, "env_steps": 80, "x": 0.5}
    table.write({"iteration": 3, "env_steps": 120, "x": 0.9})
    assert path.read_text() == "iteration,env_steps,x\n1,40,\n2,80,0.5\n3,120,0.9\n"
    assert ProgressFile.reopened(path, iterations=0).last is None
    assert not path.exists()
    assert ProgressFile.reopened(path, iterations=5).last is None


def test_a_row_that_was_half_written_is_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "progress.csv"
    table = ProgressFile(path)
    table.write({"iteration": 1, "x": 0.5})

    def half(*args, **kwargs):
        """A disk that is full in the middle of a row."""
        with open(path, "a") as file:
            file.write("2,0.6\n3,0")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", half)
        for i in (2, 3):
            table.write({"iteration": i, "x": i / 10})
    table.write({"iteration": 4, "x": 0.7})
    assert path.read_text() == "iteration,x\n1,0.5\n2,0.2\n3,0.3\n4,0.7\n"


def test_the_memory_of_a_table_does_not_grow_with_its_rows(tmp_path):
    table = ProgressFile(tmp_path / "progress.csv")
    row = {f"learner/agent_{i}/metric": 0.1 * i for i in range(50)}
    table.write({"iteration": 0, **row})

    def held(start):
        tracemalloc.start()
        for i in range(start, start + 200):
            table.write({"iteration": i, "episode_return_mean": math.nan, **dict(row)})
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    held(1)
    assert held(201) < 100 * len(row) * 8  # half of what the rows' numbers alone would take
    assert len(ProgressFile.rows_of(table.path)) == 401
    table.write({"iteration": 401, "new": 1.0})
    rows = ProgressFile.rows_of(table.path)
    assert len(rows) == 402 and rows[7]["learner/agent_3/metric"] == row["learner/agent_3/metric"]
