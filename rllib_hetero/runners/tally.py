"""Running counts of the episodes under way, from which metrics and callbacks are served."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback

from rllib_hetero.layout import Layout
from rllib_hetero.runners.episode import TeamEpisode
from rllib_hetero.runners.history import EpisodeHistory
from rllib_hetero.runners.recorder import Recorder
from rllib_hetero.runners.vector_env import Outcome
from rllib_hetero.team import Team


class Tally:
    """Lengths and returns of E episodes, as arrays.

    Attributes:
        lengths: (E,) steps so far.
        agent_steps: (E, n) steps in which the agent was alive.
        agent_returns: (E, n) sums of the agents' rewards.
        started: (E,) when the episode was reset, by `time.perf_counter`.
    """

    def __init__(self, team: Team, num_envs: int) -> None:
        self._team = team
        self.lengths = np.zeros(num_envs, np.int64)
        self.agent_steps = np.zeros((num_envs, len(team.agents)), np.int64)
        self.agent_returns = np.zeros((num_envs, len(team.agents)))
        self.started = np.zeros(num_envs)
        # Of a shared reward that nobody need have been given in every step.
        self._shared = np.zeros(num_envs)

    def start(self, envs: Sequence[int]) -> None:
        """These environments begin episodes."""
        self.lengths[envs] = 0
        self.agent_steps[envs] = 0
        self.agent_returns[envs] = 0.0
        self._shared[envs] = 0.0
        self.started[envs] = time.perf_counter()

    def add(self, rewards: np.ndarray, active: np.ndarray) -> None:
        """One step of all environments: rewards (E, n), and who acted, (E, n)."""
        self.lengths += 1
        self.agent_steps += active
        self.agent_returns += rewards
        if self._team.absences:
            self._shared += self._team.team_reward(rewards)

    def team_returns(self, envs: Sequence[int]) -> np.ndarray:
        """(k,) the team's returns in k environments so far, by its reward scheme."""
        if self._team.reward_scheme == "individual":
            return self.agent_returns[envs].sum(1)
        if self._team.absences:
            return self._shared[envs]
        # Whoever has lived longest was given every shared reward.
        return self.agent_returns[envs, self.agent_steps[envs].argmax(1)]


class EpisodeCallbacks:
    """Calls the user's episode callbacks. Those that nobody has written cost nothing.

    Args:
        layout: Agents and modules.
        runner: The env runner; callbacks are handed it, its environment, module and metrics.
        objects: Instances of the user's callback classes.
    """

    def __init__(self, layout: Layout, runner: Any, objects: list[RLlibCallback]) -> None:
        self._layout = layout
        self._runner = runner
        self._objects = objects
        self._functions = {
            name: getattr(runner.config, f"callbacks_{name}")
            for name in (
                "on_episode_created",
                "on_episode_start",
                "on_episode_step",
                "on_episode_end",
            )
        }
        self._used = {n for n in self._functions if self._is_used(n)}
        self._episodes: dict[int, TeamEpisode] = {}

    def leave(self, envs: Iterable[int]) -> None:
        """These environments are about to be reset."""
        for e in self._episodes.keys() & set(envs) if self._used else ():
            self._episodes[e].history.close()

    def start(self, envs: Sequence[int]) -> None:
        """These environments were reset."""
        if not self._used:
            return
        infos = self._runner.env.infos
        for e in envs:
            history = EpisodeHistory(self._layout, self._runner.env, e, infos[e])
            self._episodes[e] = TeamEpisode(self._layout, e, history)
            self._call("on_episode_created", e)
            self._call("on_episode_start", e)

    def step(
        self, envs: Sequence[int], outcome: Outcome, tally: Tally, recorder: Recorder, t: int
    ) -> None:
        """These environments took a step, the recorder's t-th."""
        if self._used:
            infos = self._runner.env.infos  # Once: some environments make them when asked.
            for e in envs:
                self._episodes[e].history.add(recorder, t, infos[e])
        for e in envs if "on_episode_step" in self._used else ():
            self._update(e, outcome, tally)
            self._call("on_episode_step", e)

    def end(self, envs: Sequence[int], outcome: Outcome, tally: Tally) -> None:
        """The episodes of these environments are over."""
        for e in envs if "on_episode_end" in self._used else ():
            self._update(e, outcome, tally)
            self._call("on_episode_end", e, prev_episode_chunks=[])

    def _is_used(self, name: str) -> bool:
        overridden = any(
            getattr(type(c), name, None) is not getattr(RLlibCallback, name, None)
            for c in self._objects
        )
        return bool(self._functions[name]) or overridden

    def _update(self, e: int, outcome: Outcome, tally: Tally) -> None:
        self._episodes[e].update(
            length=int(tally.lengths[e]),
            agent_returns=tally.agent_returns[e].copy(),
            team_return=float(tally.team_returns([e])[0]),
            terminated=bool(outcome.terminated[e]),
            truncated=bool(outcome.truncated[e]),
        )

    def _call(self, name: str, e: int, **more: Any) -> None:
        if name in self._used:
            make_callback(
                name,
                callbacks_objects=self._objects,
                callbacks_functions=self._functions[name],
                kwargs={
                    "episode": self._episodes[e],
                    "env_runner": self._runner,
                    "metrics_logger": self._runner.metrics,
                    "env": self._runner.env,
                    "rl_module": self._runner.module,
                    "env_index": e,
                    **more,
                },
            )
