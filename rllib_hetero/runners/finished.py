"""Finished episodes, on their way into RLlib's metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ray.rllib.utils.metrics import NUM_EPISODES, NUM_EPISODES_LIFETIME

from rllib_hetero.runners.tally import Tally
from rllib_hetero.team import Layout


class FinishedEpisodes:
    """Keeps the episodes that end in a rollout until they are logged together.

    RLlib's means, minima and maxima are over a window of the latest episodes. Logging one costs
    what several steps of a fast environment cost, so that those which would leave the window
    within the rollout are only counted.

    Args:
        layout: Agents and modules.
        window: Of this runner, in episodes.
    """

    def __init__(self, layout: Layout, window: int) -> None:
        self._layout = layout
        self._window = window
        # Of each step in which episodes ended: lengths, team returns, seconds, and by agent the
        # returns and steps; (k,) or (k, n) for k episodes.
        self._ended: list[tuple[np.ndarray, ...]] = []
        self._metrics: list[Mapping[str, np.ndarray]] = []

    def add(self, envs: Sequence[int], tally: Tally, metrics: Mapping[str, np.ndarray]) -> None:
        """The episodes of these environments are over.

        Args:
            envs: k environments.
            tally: Has their lengths and returns.
            metrics: The environment's own, name to (k,).
        """
        if envs:
            # Copies: the environment may have one set of arrays for all its episodes.
            self._metrics.append({name: np.array(x) for name, x in metrics.items()})
            self._ended.append(
                (
                    tally.lengths[envs],
                    tally.team_returns(envs),
                    time.perf_counter() - tally.started[envs],
                    tally.agent_returns[envs],
                    tally.agent_steps[envs],
                )
            )

    def log(self, metrics: Any, log_episode: Callable[..., None]) -> None:
        """Logs what has been added since the last call.

        Args:
            metrics: The runner's metrics logger.
            log_episode: RLlib's `_log_episode_metrics` of the runner.
        """
        if not self._ended:
            return
        columns = [np.concatenate(x) for x in zip(*self._ended, strict=True)]
        for name in self._metrics[0]:
            for value in np.concatenate([m[name] for m in self._metrics])[-self._window :].tolist():
                metrics.log_value(name, value, window=self._window)
        self._ended, self._metrics = [], []
        count = len(columns[0])
        latest = (x[-self._window :].tolist() for x in columns)
        agents = [str(a) for a in self._layout.team.agents]
        for length, team_return, seconds, returns, steps in zip(*latest, strict=True):
            by_agent = dict(zip(agents, returns, strict=True))
            by_module = {
                m: sum(by_agent[str(a)] for a in members)
                for m, members in self._layout.groups.items()
            }
            by_steps = dict(zip(agents, steps, strict=True))
            log_episode(length, team_return, seconds, by_agent, by_module, by_steps)
        metrics.log_value(NUM_EPISODES, count, reduce="sum")
        metrics.log_value(NUM_EPISODES_LIFETIME, count, reduce="lifetime_sum")
