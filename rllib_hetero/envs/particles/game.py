"""E copies of a game in the plane, stepped as one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team


class ParticleGame(VectorTeamEnv):
    """Truncated after `max_cycles` steps, never terminated; every agent has a reward of its own.

    Args:
        observation_sizes: Agent id to d_i, in the order of the agents.
        action_spaces: Agent id to its space.
        max_cycles: Steps per episode.
        num_envs: E.
    """

    def __init__(
        self,
        observation_sizes: Mapping[AgentID, int],
        action_spaces: Mapping[AgentID, gym.Space],
        *,
        max_cycles: int,
        num_envs: int,
    ) -> None:
        agents = tuple(observation_sizes)
        self.num_envs = num_envs
        self.team = Team(
            agents=agents,
            observation_spaces={
                a: Box(-np.inf, np.inf, (d,), np.float32) for a, d in observation_sizes.items()
            },
            action_spaces=dict(action_spaces),
            reward_scheme="individual",
        )
        self.observations = {
            a: np.zeros((num_envs, d), np.float32) for a, d in observation_sizes.items()
        }
        self.state = None
        self.active = np.ones((num_envs, len(agents)), bool)
        self.infos = [{} for _ in range(num_envs)]
        self._max_cycles = max_cycles
        self._steps = np.zeros(num_envs, np.int64)
        # One for each environment, so that none depends on what happens in the others.
        self._random = [np.random.default_rng() for _ in range(num_envs)]

    @abstractmethod
    def _place(self, e: int) -> None:
        """Draws the beginning of an episode in environment e."""

    @abstractmethod
    def _measure(self) -> None:
        """Computes what follows from the positions, for all environments."""

    @abstractmethod
    def _observe(self, envs: Sequence[int] | slice) -> None:
        """Writes the observations of these environments, from the latest `_measure`."""

    @abstractmethod
    def _act(self, actions: dict[AgentID, np.ndarray]) -> None:
        """Does what the agents chose, (E, ...) each."""

    @abstractmethod
    def _rewards(self) -> np.ndarray:
        """(E, n) rewards, from the latest `_measure`."""

    def _settle(self) -> None:
        """Does what follows from the positions and is seen one step later."""

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        envs = list(envs)
        for e, seed in zip(envs, seeds, strict=True):
            if seed is not None:
                self._random[e] = np.random.default_rng(seed)
            self._place(e)
        self._steps[envs] = 0
        self._measure()
        # Of these alone: in the others, the latest events are not to be seen yet.
        self._observe(envs)

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        self._steps += 1
        self._act(actions)
        self._measure()
        rewards = self._rewards().astype(np.float32)
        self._observe(slice(None))
        self._settle()
        return Outcome(
            rewards,
            terminated=np.zeros(self.num_envs, bool),
            truncated=self._steps == self._max_cycles,
            failed=np.zeros(self.num_envs, bool),
        )
