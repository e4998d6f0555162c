"""A Ray head of the tests' own, with a token: started by `ray start --head`, ended by its pids."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from ray.job_submission import JobSubmissionClient

BIN = Path(sys.executable).parent
START_S = 600
TRIES = 4  # a node ends itself where it takes 30 seconds to start, as it may on a busy machine


class Head:
    """A head that listens on this machine, and the environment of who may talk to it.

    Attributes:
        env: For processes that know the token.
        token: 32 bytes in hex.
        url: The job server's.
    """

    def __init__(self, folder: Path, dashboard_port: int) -> None:
        self.token = secrets.token_hex(32)
        self.url = f"http://127.0.0.1:{dashboard_port}"
        # Nothing of the caller's Ray, and no PYTHONPATH: jobs have to bring the package along.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH"))}
        self.env = {
            **kept,
            "HOME": str(folder),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # as an activated environment's
            "RAY_API_SERVER_ADDRESS": self.url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
        }

    def ray(self, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Runs `ray ...` to its end; returns its exit code and all it printed."""
        with self.ray_process(*arguments, env=env) as process:
            printed, _ = process.communicate(timeout=START_S)
        return process.returncode, printed

    def ray_process(
        self, *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen:
        """Starts `ray ...`."""
        ray = shutil.which("ray", path=self.env["PATH"])
        return subprocess.Popen(
            [ray, *arguments], cwd=cwd, env=env or self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def client(self) -> JobSubmissionClient:
        """In this process, whose own Ray may have no token."""
        return JobSubmissionClient(self.url, headers={"Authorization": f"Bearer {self.token}"})


@contextmanager
def running_head(*, num_cpus: int) -> Iterator[Head]:
    """A head for the block. No process of it is left behind.

    Raises:
        AssertionError: If it does not start, or some of it had to be killed at the end.
    """
    said = ""
    for _ in range(TRIES):
        with _tried(num_cpus) as (head, log):
            if head is not None:
                yield head
                return
            said = log.read_text()
    raise AssertionError(f"no head: {said}")


@contextmanager
def _tried(num_cpus: int) -> Iterator[tuple[Head | None, Path]]:
    """A head, or None if it ended before it had started; and its log."""
    # Directly below /tmp: Ray's sockets live there, and their paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    ports = _free_ports(4)
    head, log = Head(folder, ports[0]), folder / "head.log"
    try:
        with log.open("w") as file:
            process = subprocess.Popen(
                _start(folder, ports, num_cpus), env=head.env, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield (head if _has_started(process, folder) else None), log
        finally:
            _end(process, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, ports: list[int], num_cpus: int) -> list[str]:
    """The command. Every port that other heads on this machine may have is another one."""
    dashboard, agent, client, gcs = ports
    return [
        str(shutil.which("ray", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")),
        "start", "--head", "--block", "--disable-usage-stats",
        f"--port={gcs}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
        "--min-worker-port=0", "--max-worker-port=0",  # free ones
        f"--num-cpus={num_cpus}", '--resources={"driver": 1}',
        "--object-store-memory=100000000", f"--temp-dir={folder}",
    ]  # fmt: skip


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def _has_started(process: subprocess.Popen, folder: Path) -> bool:
    """Waits until it has, or has ended."""
    deadline = time.monotonic() + START_S
    while not (folder / "ray_current_cluster").exists():  # the last thing that is written
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "the head neither starts nor ends"
        time.sleep(0.1)
    return True


def _end(process: subprocess.Popen, folder: Path) -> None:
    """Ends the head as a signal does. `ray stop` would end every Ray on this machine."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    psutil.wait_procs(family, timeout=20)
    left = [p for p in (*family, *_of(folder)) if p.is_running()]
    left = [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
    names = [" ".join(p.cmdline()) for p in left]
    for p in left:
        p.kill()
    if process.poll() is None:
        process.kill()
        process.wait()
    assert not left, f"left by the head: {names}"


def _of(folder: Path) -> list[psutil.Process]:
    """What names the folder on its command line, whoever its parent is by now."""
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in p.info["cmdline"] or ())
    ]
