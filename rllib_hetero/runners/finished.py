"""Finished episodes, on their way into RLlib's metrics."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
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
        config: Its `metrics_num_episodes_for_smoothing` is the window, over all runners.
    """

    def __init__(self, layout: Layout, config: AlgorithmConfig) -> None:
        self._layout = layout
        window = config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1)
        self._latest: deque[tuple[int, float, float, np.ndarray, np.ndarray]] = deque(
            maxlen=max(1, math.ceil(window))
        )
        self._count = 0

    def add(self, e: int, tally: Tally) -> None:
        """The episode of environment e is over."""
        self._count += 1
        self._latest.append(
            (
                int(tally.lengths[e]),
                tally.team_return(e),
                time.perf_counter() - tally.started[e],
                tally.agent_returns[e].copy(),
                tally.agent_steps[e].copy(),
            )
        )

    def log(self, metrics: Any, log_episode: Callable[..., None]) -> None:
        """Logs what has been added since the last call.

        Args:
            metrics: The runner's metrics logger.
            log_episode: RLlib's `_log_episode_metrics` of the runner.
        """
        agents = [str(a) for a in self._layout.team.agents]
        for length, team_return, seconds, returns, steps in self._latest:
            by_agent = dict(zip(agents, returns.tolist(), strict=True))
            by_module = {
                m: sum(by_agent[str(a)] for a in members)
                for m, members in self._layout.groups.items()
            }
            by_steps = dict(zip(agents, steps.tolist(), strict=True))
            log_episode(length, team_return, seconds, by_agent, by_module, by_steps)
        if self._count:
            metrics.log_value(NUM_EPISODES, self._count, reduce="sum")
            metrics.log_value(NUM_EPISODES_LIFETIME, self._count, reduce="lifetime_sum")
        self._latest.clear()
        self._count = 0
