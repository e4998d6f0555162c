"""Ends a remote runner's process when an environment hangs, so that Ray starts another."""

from __future__ import annotations

import faulthandler
import time
from typing import Any

from typing_extensions import Self

_STDERR = 2
# Each arming starts a thread, so not every step does it: the time that a step may be late is that
# much longer than asked for.
_SLACK = 0.1


class HangGuard:
    """A limit on the time until the next `alive()`. Beyond it, the process ends with status 1.

    Before that, faulthandler writes the traceback of every thread to stderr: it shows where the
    environment hangs. That needs no Python code to run, so it also works where an environment
    holds the interpreter's lock. The limit holds within a `with` block only, and is kept up to a
    tenth late.

    Args:
        seconds: None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._fresh_until = 0.0

    def alive(self) -> None:
        """Starts the time anew."""
        if self._seconds is None:
            return
        now = time.monotonic()
        if now >= self._fresh_until:
            faulthandler.dump_traceback_later(self._seconds * (1 + _SLACK), exit=True, file=_STDERR)
            self._fresh_until = now + self._seconds * _SLACK

    def __enter__(self) -> Self:
        self.alive()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._seconds is not None:
            faulthandler.cancel_dump_traceback_later()
            self._fresh_until = 0.0
