"""Whenever a signal comes, a run ends in the same short way; a folder has one run at a time."""

import contextlib
import json
import os
import shutil
import signal
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rllib_hetero.cli import commands, train
from rllib_hetero.cli import resume as resume_command
from rllib_hetero.cli.ending import InputError
from rllib_hetero.reporting import checkpoints, comparison, resume, run, session
from rllib_hetero.reporting.lock import FolderInUseError, locked
from rllib_hetero.reporting.record import write_record
from rllib_hetero.reporting.session import StopSignals

STEPS = 100
RECORD = {
    "algorithm": "FakeAlgo", "env": "x", "env_config": {}, "config": {}, "target_env_steps": 10**6,
}  # fmt: skip


class FakeAlgo:
    """Trains nothing, and tells each moment."""

    config = SimpleNamespace(env="x", env_config={}, seed=1)

    def __init__(self, moment, iterations=0):
        self.moment, self.training_iteration = moment, iterations
        self.metrics = SimpleNamespace(peek=lambda *_, **__: STEPS * self.training_iteration)

    def train(self):
        self.moment("iteration")
        self.training_iteration += 1
        steps = STEPS * self.training_iteration
        return {"env_runners": {"num_env_steps_sampled_lifetime": steps}}

    def save_to_path(self, path, previous=None):
        self.moment(f"checkpoint {self.training_iteration}")
        Path(path).mkdir()
        self.moment(f"half of checkpoint {self.training_iteration}")

    def stop(self):
        self.moment("algo.stop")


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A shell has what it runs in the background ignore SIGINT, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def trains(tmp_path, monkeypatch):
    """Runs the command without Ray; a signal comes at a moment. Returns (exit code, result)."""
    seen = []

    def start(moment_of_signal, number, *, steps=5 * STEPS, again=False, signals=1):
        waiting = [number] * signals

        def moment(name):
            seen.append(name)
            while waiting and name == moment_of_signal:
                signal.raise_signal(waiting.pop())

        @contextlib.contextmanager
        def no_ray(config, stop=None):
            moment("Ray starts")
            yield
            moment("Ray stops")

        def build():
            moment("build")
            return FakeAlgo(moment)

        def restore(path):
            moment("restore")
            return FakeAlgo(moment, iterations=2)

        def unpickle(path):
            moment("unpickle")
            return FakeAlgo.config

        config = SimpleNamespace(build_algo=build)
        for module in (run, resume):
            monkeypatch.setattr(module, "running_ray", no_ray)
        monkeypatch.setattr(run, "record_of", lambda *_, **__: moment("record") or dict(RECORD))
        monkeypatch.setattr(run, "_draw", lambda *_: moment("curve"))
        monkeypatch.setattr(run, "return_convention", lambda _: "")
        monkeypatch.setattr(resume, "_config", unpickle)
        monkeypatch.setattr(resume, "Algorithm", SimpleNamespace(from_checkpoint=restore))
        folder = tmp_path / "run"

        def command():
            moment("command")
            call = resume.resume_training if again else run.run_training
            given = {"folder": folder} if again else {"config": config, "out": folder}
            return train.end_of(
                {}, folder,
                lambda: call(
                    **given, env_steps=steps, checkpoint_every_steps=2 * STEPS, quiet=True,
                    raise_when_stopped=False,
                ),
            )  # fmt: skip

        with StopSignals() as stop:
            code = commands.ending_well(command, stop)
        return code

    start.seen = seen
    return start


EARLY = ["command", "Ray starts", "build", "record"]
LATER = ["checkpoint 0", "half of checkpoint 0", "iteration", "half of checkpoint 2"]
LATE = ["half of checkpoint 5", "curve", "algo.stop", "Ray stops"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", EARLY + LATER + LATE)
def test_a_signal_at_any_moment_of_a_training(trains, capfd, tmp_path, moment, number):
    code = trains(moment, number)
    printed = capfd.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert "Traceback" not in printed.err and moment in trains.seen
    folder = tmp_path / "run"
    if moment in LATE[1:]:
        assert (code, result["status"]) == (0, "done")  # all was there already
    else:
        assert (code, result["status"]) == (128 + number, "stopped")
    if moment in EARLY:
        assert "iteration" not in trains.seen and result.get("checkpoint") is None
    else:
        assert Path(result["checkpoint"]) == folder / "checkpoint"
        assert [p.name for p in folder.glob("checkpoint*")] == ["checkpoint"]
    with locked(folder if folder.exists() else tmp_path):  # nobody has it any more
        pass


@pytest.mark.parametrize("moment", ["command", "unpickle", "Ray starts", "restore", "iteration"])
def test_a_signal_at_any_moment_of_a_resume(trains, capfd, tmp_path, moment):
    trains("never", signal.SIGINT, steps=3 * STEPS)
    before = (tmp_path / "run" / "progress.csv").read_text()
    trains.seen.clear()
    code = trains(moment, signal.SIGINT, again=True)
    printed = capfd.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert "Traceback" not in printed.err
    assert (code, result["status"]) == (130, "stopped")
    if moment not in ("command", "iteration"):
        assert (tmp_path / "run" / "progress.csv").read_text() == before
        assert result["env_steps"] == 3 * STEPS and result["checkpoint"]


def test_one_ctrl_c_that_comes_twice_and_a_second_one(trains, tmp_path, capfd, monkeypatch):
    """A launcher hands on what the terminal has sent already: that is one wish."""
    assert trains("half of checkpoint 2", signal.SIGINT, signals=2) == 130
    monkeypatch.setattr(session, "_SAME_S", -1.0)
    capfd.readouterr()
    shutil.rmtree(tmp_path / "run")
    assert trains("half of checkpoint 2", signal.SIGINT, signals=2) == 3
    printed = capfd.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert result["status"] == "failed" and "second signal" in result["error"]
    assert "Traceback" not in printed.err and result["checkpoint"]


# ---- one at a time ------------------------------------------------------------------------------


def test_a_lock_dies_with_its_process(tmp_path):
    told, tell = os.pipe()
    process = os.fork()
    if not process:
        try:
            with locked(tmp_path):
                os.write(tell, b"mine")
                signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(told, 4) == b"mine"
        with pytest.raises(FolderInUseError, match=f"by process {process} on"), locked(tmp_path):
            pass
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(told), os.close(tell)
    with locked(tmp_path):
        pass


def test_a_second_training_changes_nothing(trains, tmp_path, capsys):
    folder = tmp_path / "run"
    trains("never", signal.SIGINT, steps=2 * STEPS)
    (folder / "checkpoint.new").mkdir()  # as whoever has the lock is writing it
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    capsys.readouterr()
    with locked(folder):
        for again in (True, False):
            if not again:
                (folder / "progress.csv").unlink()  # before its first iteration
                del before[folder / "progress.csv"]
            assert trains("never", signal.SIGINT, again=again) == 2
            assert "is being written by process" in capsys.readouterr().err
        arguments = Namespace(folder=folder, env_steps=None, checkpoint_every=None)
        with pytest.raises(InputError, match="is being written by"):
            resume_command.run(arguments)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    assert before == after


def test_a_comparison_leaves_what_another_one_trains(tmp_path, monkeypatch):
    beside = tmp_path / "a.unfinished"
    beside.mkdir()
    (beside / "progress.csv").touch()
    monkeypatch.setattr(comparison, "run_training", lambda *_, **__: None)
    with locked(beside), pytest.raises(FolderInUseError):
        comparison._train._function(None, 1, tmp_path / "a")
    assert (beside / "progress.csv").exists()


def test_a_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unknown)
    with locked(tmp_path):
        pass
    assert "Nothing keeps a second training out" in caplog.text
    write_record(RECORD, tmp_path / "run.json")
    assert checkpoints.settle(tmp_path / "checkpoint") is False
