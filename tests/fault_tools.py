"""For tests and measurements of faults: commands in processes of their own, to be killed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
LEARNER = "ray::_WrappedExecutable"  # as RLlib's remote learners call themselves
RUNNER = "ray::TeamEnvRunner"


class Command:
    """`python -m rllib_hetero ...` with a Ray of its own. What it leaves behind ends with it.

    Args:
        arguments: Of the command.
        log: The file for what it prints.
        before: A command that starts it, such as `small_disk` gives.
    """

    def __init__(self, *arguments: object, log: Path, before: tuple[str, ...] = ()) -> None:
        self.log = log
        # Directly below /tmp: Ray's sockets live there, and their paths must be short.
        self._ray_folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, sys.path)])
        env = {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"}
        env["RAY_TMPDIR"] = self._ray_folder
        env.pop("RAY_ADDRESS", None)
        self._family: set[psutil.Process] = set()
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "rllib_hetero", *map(str, arguments)],
                cwd=log.parent, env=env, stdout=file, stderr=file,
            )  # fmt: skip

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.family()
            self.process.kill()
        self.process.wait()
        # Ray's processes end by themselves when the driver is gone, but not at once.
        psutil.wait_procs(self._family, timeout=10)
        for process in self._family:
            if process.is_running():
                process.kill()
        shutil.rmtree(self._ray_folder, ignore_errors=True)

    def family(self) -> list[psutil.Process]:
        """The processes that descend from the command; none any more once it has ended."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._family.update(found)
        return found

    def member(self, *words: str) -> psutil.Process:
        """The first of the family whose title has one of the words."""
        for process in self.family():
            if any(word in title_of(process) for word in words):
                return process
        raise LookupError(f"none of {words} in {[title_of(p) for p in self.family()]}")

    def driver(self) -> psutil.Process:
        """The process that trains."""
        me = psutil.Process(self.process.pid)
        ours = f"{sys.executable} -m rllib_hetero"
        return me if title_of(me).startswith(ours) else self.member(ours)

    def freeze_when(self, condition: Callable[[], Any]) -> None:
        """Stops the command's process at a moment when the condition holds, which then stays so."""
        while True:
            self.wait_until(condition)
            self.process.send_signal(signal.SIGSTOP)
            while psutil.Process(self.process.pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.001)
            if condition():
                return
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the driver."""
        self.family()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait_until(self, condition: Callable[[], Any], seconds: float = 600) -> Any:
        """Polls; fails if the command ends before, or after so many seconds."""
        end = time.monotonic() + seconds
        self.family()
        while not (value := condition()):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.005)
        return value

    def end(self, seconds: float = 600) -> int:
        """Waits for the command's own end; returns its exit code."""
        self.family()
        return self.process.wait(timeout=seconds)

    def result(self) -> dict[str, Any]:
        """The result line."""
        lines = [x for x in self.log.read_text().splitlines() if x.startswith('{"')]
        return json.loads(lines[-1])


def title_of(process: psutil.Process) -> str:
    """Its command line, or what it calls itself."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def table_of(run: Path) -> list[dict[str, float]]:
    """The whole rows of a run's `progress.csv`."""
    try:
        text = (run / "progress.csv").read_text()
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(whole)]


def steps_of(run: Path) -> int:
    """Environment steps of the last row; 0 if there is none."""
    rows = table_of(run)
    return int(rows[-1]["env_steps"]) if rows else 0


def resumed(run: Path) -> dict[str, Any]:
    """What `run.json` says of the last resume."""
    return json.loads((run / "run.json").read_text())["resumed"][-1]


def small_disk(place: Path, kept: Path, megabytes: int) -> tuple[str, ...]:
    """Starts a command with a disk of its own at `place`, which only it and its children see.

    From outside it is at `seen_by`. What is in `place / "run"` at the end is copied to `kept`.
    """
    script = (
        f'mount -t tmpfs -o size={megabytes}m tmpfs "$0" || exit 99; '
        f'"$@"; code=$?; cp -r "$0/run" "{kept}"; exit $code'
    )
    return ("unshare", "--mount", "sh", "-c", script, str(place))


def can_mount() -> bool:
    """Whether `small_disk` works here: it needs root, and a kernel that allows it."""
    place = tempfile.mkdtemp()
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    try:
        return subprocess.run(tried, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
    finally:
        os.rmdir(place)


def seen_by(process: subprocess.Popen, path: Path) -> Path:
    """A path as the process sees it."""
    return Path(f"/proc/{process.pid}/root{path}")


def fill(disk: Path) -> Path:
    """Takes all room that is left; returns the file to remove.

    To be called again and again: a checkpoint that fails gives back the room it took.
    """
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    return filler
