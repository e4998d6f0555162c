"""Finished episodes, on their way into RLlib's metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.rllib.utils.metrics import (
    EPISODE_AGENT_RETURN_MEAN,
    EPISODE_AGENT_STEPS,
    EPISODE_DURATION_SEC_MEAN,
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_MODULE_RETURN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
)

from rllib_hetero.layout import Layout
from rllib_hetero.runners.tally import Tally


class FinishedEpisodes:
    """Keeps the episodes that end in a rollout until they are logged together.

    RLlib's means, minima and maxima are over a window of the latest episodes. Logging one costs
    what several steps of a fast environment cost, so that those which would leave the window
    within the rollout are only counted, and each key's values are logged in one go: as RLlib's
    `_log_episode_metrics` would, without its walk through nested dicts.

    Args:
        layout: Agents and modules.
        window: Of this runner, in episodes.
    """

    def __init__(self, layout: Layout, window: int) -> None:
        agents = layout.team.agents
        self._agents = [str(a) for a in agents]
        self._members = {
            m: [agents.index(a) for a in members] for m, members in layout.groups.items()
        }
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

    def log(self, metrics: Any) -> None:
        """Logs what has been added since the last call, under RLlib's keys.

        Args:
            metrics: The runner's metrics logger.
        """
        if not self._ended:
            return
        lengths, returns, seconds, agent_returns, agent_steps = (
            np.concatenate(x) for x in zip(*self._ended, strict=True)
        )

        def log(key: str | tuple[str, ...], column: np.ndarray, reduce: str = "mean") -> None:
            for value in column[-self._window :].tolist():
                metrics.log_value(key, value, reduce=reduce, window=self._window)

        log(EPISODE_DURATION_SEC_MEAN, seconds)
        log(EPISODE_LEN_MEAN, lengths)
        log(EPISODE_LEN_MIN, lengths, "min")
        log(EPISODE_LEN_MAX, lengths, "max")
        log(EPISODE_RETURN_MEAN, returns)
        log(EPISODE_RETURN_MIN, returns, "min")
        log(EPISODE_RETURN_MAX, returns, "max")
        for i, agent in enumerate(self._agents):
            log((EPISODE_AGENT_RETURN_MEAN, agent), agent_returns[:, i])
            log((EPISODE_AGENT_STEPS, agent), agent_steps[:, i])
        for module, members in self._members.items():
            log((EPISODE_MODULE_RETURN_MEAN, module), agent_returns[:, members].sum(1))
        for name in self._metrics[0]:
            log(name, np.concatenate([m[name] for m in self._metrics]))
        metrics.log_value(NUM_EPISODES, len(lengths), reduce="sum")
        metrics.log_value(NUM_EPISODES_LIFETIME, len(lengths), reduce="lifetime_sum")
        self._ended, self._metrics = [], []
