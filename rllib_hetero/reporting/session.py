"""Around a training: Ray, where none is running, and signals that end it in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.tune import register_env

from rllib_hetero.envs import register_environments
from rllib_hetero.runners.env_creator import env_creator

_SAME_S = 1.0  # seconds within which two signals are one wish


@contextmanager
def running_ray(config: Any, stop: StopSignals | None = None) -> Iterator[None]:
    """Ray, as it runs already or as RAY_ADDRESS says; otherwise one of its own, ended after.

    Args:
        config: The algorithm's.
        stop: Whose signals they are: when it is started, Ray takes SIGTERM for itself.
    """
    if ray.is_initialized():
        yield
        return
    creator = env_creator(config.env)
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
    else:
        # Enough for every actor to start, also where the machine has fewer cores.
        cores = len(os.sched_getaffinity(0))
        actors = config.num_env_runners + config.evaluation_num_env_runners + config.num_learners
        ray.init(address="local", num_cpus=max(cores, actors + 1), include_dashboard=False)
    if stop is not None:
        stop.listen()
    try:
        yield
    finally:
        ray.shutdown()
        # With it went the names that were registered; a next run needs them again.
        register_environments()
        if isinstance(config.env, str):
            register_env(config.env, creator)


class StoppedAtOnce(KeyboardInterrupt):
    """A second signal: the process is to end now, and nothing is saved."""


class StopSignals:
    """Turns the first SIGINT or SIGTERM into an end in order, at every moment of a run.

    Until `begin` is called, there is nothing to save: it raises KeyboardInterrupt. From then on it
    is a wish, `received`, that is read between iterations: stopping in the middle of an update
    would leave agents of different iterations in the checkpoint. A second signal raises
    `StoppedAtOnce` in any case. Outside the main thread, where Python allows no handlers, it does
    nothing.

    Attributes:
        received: The first signal; None if none came.
        early: Whether it came before `begin`, and no second one did.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.early = False
        self._begun = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self.listen()
        return self

    def listen(self) -> None:
        """Makes the signals this object's, whoever has taken them since."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    before = signal.signal(number, self._receive)
                    self._before.setdefault(number, before)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def begin(self) -> None:
        """From now on a signal is a wish. One that came before, and was lost, is raised now."""
        self._begun = True
        if self.received is not None:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None:
            # A shell and a launcher may each hand on the same Ctrl-C.
            if time.monotonic() - self._since < _SAME_S:
                return
            self.early = False
            raise StoppedAtOnce
        self.received, self._since = number, time.monotonic()
        self._first(number)

    def _first(self, number: int) -> None:
        if not self._begun:
            self.early = True
            raise KeyboardInterrupt
        with suppress(OSError):  # where nobody reads what is printed
            os.write(2, b"Stopping after this iteration. Once more stops at once, unsaved.\n")
