"""Checks of making and closing: other workers, processes and threads left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]

from rllib_hetero.checking.calls import EnvironmentFault, call
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.playing import play, reset
from rllib_hetero.checking.repeats import first_difference
from rllib_hetero.checking.row_view import RowView
from rllib_hetero.checking.subject import Subject
from rllib_hetero.team import Team

_GRACE = 1.0  # seconds that what is closed is given to end


def worker_index(subject: Subject) -> Iterator[Fault]:
    """The team is the same on every worker."""
    with subject.fresh(worker_index=1) as env:
        if isinstance(env, RowView):
            team = env.batch.team
        else:
            team = call(Team.from_env, env, name="reading the spaces on worker 1")
        different = [
            name
            for name in ("agents", "observation_spaces", "action_spaces", "state_space")
            if getattr(team, name) != getattr(subject.team, name)
        ]
        if different:
            yield error(
                f"with env_config.worker_index 1 in place of 0, {' and '.join(different)} differ",
                "The team is read once, on the driver, and is that of all workers.",
            )
        elif subject.deterministic:
            seed = subject.settings.seed
            start, again = ([reset(subject.env(), subject.team, 0, seed)] for _ in range(2))
            difference = first_difference(start, [reset(env, subject.team, 0, seed)])
            if difference and not first_difference(start, again):
                yield note(
                    f"the same seed on worker 1 and on worker 0: {difference}",
                    "Fine if meant. Every worker is given seeds of its own anyway.",
                )


def closing(subject: Subject) -> Iterator[Fault]:
    """close() works, and an environment can be made, played and closed again."""
    for k in range(2):
        subject.hurry()
        env = subject.make()
        for _ in play(env, subject.team, seed=subject.settings.seed + k, steps=3):
            pass
        call(env.close, name="close()", where="after 3 steps")
    yield from ()  # what is wrong was raised


def leaks(subject: Subject) -> Iterator[Fault]:
    """close() ends the processes and threads that the environment started."""
    processes, threads = _children(), set(threading.enumerate())
    env = subject.make()
    for _ in play(env, subject.team, seed=subject.settings.seed, steps=3):
        pass
    try:
        call(env.close, name="close()")
    except EnvironmentFault:
        return  # told by `closing`
    del env
    gc.collect()
    deadline = time.monotonic() + _GRACE
    while True:
        left = [
            f"the process {name!r}" for pid, name in _children().items() if pid not in processes
        ]
        left += [f"the thread {t.name!r}" for t in set(threading.enumerate()) - threads]
        if not left:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    yield warning(
        f"{', '.join(sorted(left))} still ran {_GRACE:g} s after close()",
        "End in close() what the environment starts: environments that fail are closed and made "
        "anew, and what they leave adds up.",
    )


def _children() -> dict[int, str]:
    """Direct children of this process that run: pid and name."""
    children = {}
    for child in psutil.Process().children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                children[child.pid] = child.name()
        except psutil.Error:
            continue
    return children
