"""Runs a game for as long as the process that wants it lives. A script of its own.

    python -I -S supervisor.py <temporary folder> <program> <arguments> ...

Its standard input is the lifeline: a pipe whose other end the environment's process holds, and
never writes to. However that process ends, SIGKILL included, the kernel closes the pipe; the end
of the file then is the sign to kill the game and everything that it has started, and to delete
the game's temporary folder. SIGTERM is the same sign. When the game ends by itself, this script
cleans up and exits with the game's status.

Why not the kernel's "signal on the parent's death" alone: it is sent when the *thread* dies that
started the child, and has to be asked for between fork and exec, which is not safe in a worker
with threads. This script has one thread that forks, and asks for the signal there: so the game does
not outlive a killed supervisor either.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

_SIGNAL_ON_PARENTS_DEATH, _ADOPT_ORPHANS = 1, 36  # numbers of prctl's options
_libc = ctypes.CDLL(None, use_errno=True)


def descendants(root: int) -> list[int]:
    """Process ids of all that `root` has started, and what those have started."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    # The name before it is in brackets and may hold anything.
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:  # has ended meanwhile
                continue
            if state != "Z":
                children.setdefault(int(parent), []).append(int(name))
    found, unseen = [], [root]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += below
        unseen += below
    return found


def kill_all() -> None:
    """Kills all descendants, those that they start meanwhile too."""
    for _ in range(100):
        alive = descendants(os.getpid())
        if not alive:
            return
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def main() -> None:
    """Runs the game, and ends with it or with whoever wants it."""
    folder, *command = sys.argv[1:]
    # What the game leaves behind becomes a child of this process, where it can be found.
    _libc.prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)

    def at_birth() -> None:
        _libc.prctl(_SIGNAL_ON_PARENTS_DEATH, signal.SIGKILL, 0, 0, 0)

    def finish(status: int) -> None:
        kill_all()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(status)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        finish(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: finish(128 + signal.SIGTERM))
    game = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=at_birth)
    threading.Thread(target=watch, daemon=True).start()
    status = game.wait()
    finish(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
