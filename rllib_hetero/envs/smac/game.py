"""The game's process: found, supervised, watched, and ended with certainty."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))


class GameFailure(RuntimeError):
    """The game crashed, or did not answer in time. The environment must be made anew."""


class Game:
    """A running game under its supervisor; see `supervisor` for what that is.

    Args:
        command: The program and its arguments.
        folder: The game's temporary folder, deleted after it.
        cwd: Its working directory.
        env: Its environment variables.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _SUPERVISOR, folder, *command],
            stdin=subprocess.PIPE,
            cwd=cwd,
            env=env,
            start_new_session=True,  # Ctrl-C in a terminal is for the training, not for the game
        )

    @property
    def pid(self) -> int:
        """Of the supervisor, whose only child is the game."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, or None while the game runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Kills the game's processes; returns when there are none. Calling it again is harmless."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()  # The kernel then kills the game.
            self._process.wait()


class GameGuard:
    """Watches over one environment's game.

    Attributes:
        game: The game that was launched last, if any.
    """

    def __init__(self) -> None:
        self.game: Game | None = None
        self._deadline: float | None = None
        self._expired = False
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    @contextmanager
    def launching(self, timeout_s: float) -> Iterator[None]:
        """Within this context, pysc2 starts its game under a supervisor, and it is this guard's.

        Args:
            timeout_s: What pysc2 is told to wait for the game. A margin is added, so that
                `limit` is the one that ends a game which is too slow.
        """
        _add_run_config()
        token = _launching.set((self, math.ceil(timeout_s) + 60))
        try:
            yield
        finally:
            _launching.reset(token)

    @contextmanager
    def limit(self, seconds: float, setting: str) -> Iterator[None]:
        """Kills the game if the calls in this context take longer.

        They are blocked in reading from the game, or in a loop over its answers: once it is dead
        they end by themselves, with an error.

        Args:
            seconds: How long they may take.
            setting: Where the user set that.

        Raises:
            GameFailure: If they took longer.
        """
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        cause: Exception | None = None
        self._expired = False
        self._deadline = time.monotonic() + seconds
        try:
            yield
        except Exception as error:
            if not self._expired:
                raise
            cause = error
        finally:
            self._deadline = None
        if self._expired:
            raise GameFailure(
                f"StarCraft II did not answer within {seconds:g} s and was killed. If it is only "
                f'slow, raise env_config["{setting}"].'
            ) from cause

    def _watch(self) -> None:
        # Polled: a step takes milliseconds, and waking a thread twice in each would be felt.
        while not self._closed.wait(0.1):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._expired = True
                self._deadline = None
                self.stop()

    def stop(self) -> None:
        """Kills the game, if there is one."""
        if self.game is not None:
            self.game.stop()

    def close(self) -> None:
        """Kills the game and ends the watch."""
        self._closed.set()
        self.stop()


_launching: ContextVar[tuple[GameGuard, int] | None] = ContextVar("launching", default=None)


@cache
def _add_run_config() -> None:
    """Tells pysc2 of a way to start the game, which it takes within `GameGuard.launching` only.

    pysc2 looks for subclasses of its run configurations and takes that of the highest priority.
    """
    from pysc2.lib import sc_process
    from pysc2.run_configs import platforms

    class SupervisedProcess(sc_process.StarcraftProcess):
        _proc: Game | None

        def _launch(self, run_config: Any, args: list[str], *, guard: GameGuard) -> Game:
            guard.game = Game(args, self._tmp_dir, cwd=run_config.cwd, env=run_config.env)
            return guard.game

        def _shutdown(self) -> None:
            if self._proc is not None:
                self._proc.stop()
                self._proc = None

    class SupervisedLinux(platforms.Linux):
        @classmethod
        def priority(cls) -> int | None:
            return None if _launching.get() is None else 10

        def start(self, want_rgb: bool = False, **kwargs: Any) -> Any:
            launching = _launching.get()
            assert launching is not None
            guard, timeout_s = launching
            build = f"Base{self.version.build_version:05}"
            return SupervisedProcess(
                self,
                exec_path=os.path.join(self.data_dir, "Versions", build, self._exec_name),
                version=self.version,
                timeout_seconds=timeout_s,
                guard=guard,
                **kwargs,
            )

    # pysc2 finds the class among those that live.
    _run_configs.append(SupervisedLinux)


_run_configs: list[type] = []


def check_game(map_file: str) -> None:
    """Checks that the game and a map are where SC2PATH says.

    Args:
        map_file: Its name, without the ending.

    Raises:
        FileNotFoundError: If not. The message says what to do.
    """
    base = Path(os.environ.get("SC2PATH") or "~/StarCraftII").expanduser()
    binaries = [
        folder / "SC2_x64"
        for folder in base.glob("Versions/Base*")
        if re.fullmatch(r"Base\d+", folder.name)
    ]
    if not any(os.access(binary, os.X_OK) for binary in binaries):
        raise FileNotFoundError(
            f"StarCraft II was not found: there is no program {base}/Versions/Base*/SC2_x64. "
            "Unpack Blizzard's Linux package of the game, and set the environment variable "
            "SC2PATH to its folder on every machine with env runners."
        )
    path = base / "Maps" / "SMAC_Maps" / f"{map_file}.SC2Map"
    if not path.is_file():
        raise FileNotFoundError(
            f"The map {path} was not found. Copy smacv2's folder of maps, "
            "smacv2/env/starcraft2/maps/SMAC_Maps, to $SC2PATH/Maps/SMAC_Maps; pip does not "
            "install it."
        )
