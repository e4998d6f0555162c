"""How fast the environment is by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rllib_hetero.checking.findings import Fault, note
from rllib_hetero.checking.playing import play
from rllib_hetero.checking.row_view import RowView
from rllib_hetero.checking.subject import Subject


class _Timed:
    """An environment whose calls are timed."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self.state = getattr(env, "state", None)
        self.resets: list[float] = []
        self.steps: list[float] = []

    def reset(self, *, seed: int | None) -> Any:
        start = time.perf_counter()
        returned = self._env.reset(seed=seed)
        self.resets.append(time.perf_counter() - start)
        return returned

    def step(self, actions: dict) -> Any:
        start = time.perf_counter()
        returned = self._env.step(actions)
        self.steps.append(time.perf_counter() - start)
        return returned


def speed(subject: Subject) -> Iterator[Fault]:
    """Steps per second with random allowed actions; choosing them is not counted."""
    env, settings = subject.env(), subject.settings
    timed, end = _Timed(env), time.monotonic() + settings.seconds / 20
    for _ in play(timed, subject.team, seed=settings.seed, steps=settings.steps):
        if time.monotonic() > end and timed.steps:
            break
    resets, steps = sum(timed.resets), sum(timed.steps)
    rows = env.batch.num_envs if isinstance(env, RowView) else 1
    yield note(
        f"{rows * len(timed.steps) / (resets + steps):.0f} env steps/s in one process, "
        f"{100 * resets / (resets + steps):.0f} % of the time in reset() "
        f"({1000 * resets / len(timed.resets):.2f} ms each)"
    )
