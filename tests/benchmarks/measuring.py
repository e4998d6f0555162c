"""Two things measured in turn, and an environment that costs nothing."""

from __future__ import annotations

import cProfile
import io
import pstats
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from rllib_hetero import Outcome, Team, VectorTeamEnv


class RandomTeam(VectorTeamEnv):
    """A batched environment of n agents with random observations and rewards.

    Keys of its config: `num_agents`, `num_envs`, `observed` (features of an observation; 18),
    `acted` (components of an action; 5), and `unlike` (each agent sees one feature more than the
    one before).
    """

    def __init__(self, config: dict) -> None:
        names = tuple(f"agent_{i:02d}" for i in range(config["num_agents"]))
        observed, acted = config.get("observed", 18), config.get("acted", 5)
        more = 1 if config.get("unlike") else 0
        self._sizes = {a: observed + more * i for i, a in enumerate(names)}
        self.team = Team(
            agents=names,
            observation_spaces={
                a: Box(-np.inf, np.inf, (size,), np.float32) for a, size in self._sizes.items()
            },
            action_spaces=dict.fromkeys(names, Box(-1.0, 1.0, (acted,), np.float32)),
        )
        self.num_envs = config["num_envs"]
        self._rng = np.random.default_rng(0)
        self.state = None
        self.active = np.ones((self.num_envs, len(names)), bool)
        self.infos = [{} for _ in range(self.num_envs)]
        self._t = 0
        self.reset((), ())

    def reset(self, envs: Any, seeds: Any) -> None:
        self.observations = {
            a: self._rng.standard_normal((self.num_envs, size), np.float32)
            for a, size in self._sizes.items()
        }

    def step(self, actions: dict) -> Outcome:
        self._t += 1
        self.reset((), ())
        none = np.zeros(self.num_envs, bool)
        rewards = self._rng.standard_normal(self.active.shape, np.float32)
        return Outcome(rewards, none, np.full(self.num_envs, self._t % 25 == 0), none)


def ratios_of(a: Callable, b: Callable, rounds: int, *, clock: Callable[[], float]) -> list[float]:
    """Time of `a` over time of `b`, round by round, after one warm-up of each."""
    ratios = []
    for i in range(rounds + 1):
        times = []
        for f in (a, b):
            before = clock()
            f()
            times.append(clock() - before)
        if i:
            ratios.append(times[0] / times[1])
    return ratios


def report(
    what: str, ratios: list[float], bar: float | None, run: Callable, *, more: bool = False
) -> None:
    """Prints the median; and a profile of `run` by CPU time, if it misses the bar."""
    median = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    if bar is None:
        print(f"{what:58s} {median:6.2f}  ({spread})", flush=True)
        return
    met = median >= bar if more else median <= bar
    sign = ">=" if more else "<="
    verdict = "met" if met else "MISSED"
    print(f"{what:58s} {median:6.2f}  ({spread})  bar {sign} {bar}: {verdict}", flush=True)
    if not met:
        profile = cProfile.Profile(time.process_time)
        profile.runcall(run)
        out = io.StringIO()
        pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(15)
        print(out.getvalue())
