"""What the cooperative particle games have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Box, Discrete

from rllib_hetero.envs.cooperative_mpe.frame import Mark, draw
from rllib_hetero.errors import TeamError
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team

NUM_ACTIONS = 5
"""Directions to move in, or symbols to say."""


class ParticleGame(VectorTeamEnv):
    """E copies of a game in the plane, truncated after `max_cycles` steps, never terminated.

    Every agent has a reward of its own. What else the games count is in `episode_metrics`.

    Args:
        observation_sizes: Agent id to d_i, in the order of the agents.
        max_cycles: Steps per episode.
        render_mode: "rgb_array" if `render` is to be called, else None.
        num_envs: E.
    """

    def __init__(
        self,
        observation_sizes: Mapping[AgentID, int],
        *,
        max_cycles: int,
        render_mode: str | None,
        num_envs: int,
    ) -> None:
        agents = tuple(observation_sizes)
        self.num_envs = num_envs
        self.team = Team(
            agents=agents,
            observation_spaces={
                a: Box(-np.inf, np.inf, (d,), np.float32) for a, d in observation_sizes.items()
            },
            action_spaces={a: Discrete(NUM_ACTIONS) for a in agents},
            reward_scheme="individual",
        )
        self.observations = {
            a: np.zeros((num_envs, d), np.float32) for a, d in observation_sizes.items()
        }
        self.state = None
        self.active = np.ones((num_envs, len(agents)), bool)
        self.infos = [{} for _ in range(num_envs)]
        self._max_cycles = max_cycles
        self._render_mode = render_mode
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
    def _move(self, actions: np.ndarray) -> None:
        """Does what the agents chose, actions (E, n)."""

    @abstractmethod
    def _rewards(self) -> np.ndarray:
        """(E, n) rewards, from the latest `_measure`."""

    def _settle(self) -> None:
        """Does what follows from the positions and is seen one step later."""

    @abstractmethod
    def _marks(self, e: int) -> list[Mark]:
        """What a picture of environment e shows."""

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
        self._move(np.stack([actions[a] for a in self.team.agents], axis=1))
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

    def render(self) -> np.ndarray:
        """A picture of environment 0, (480, 480, 3) uint8.

        Raises:
            TeamError: If the environment was made without a render mode.
        """
        if self._render_mode is None:
            why = "The environment was made without `render_mode`, so it has no pictures."
            raise refusal("render_mode", why, '"rgb_array"')
        return draw(self._marks(0), f"step {self._steps[0]} of {self._max_cycles}")


def sizes_of(kind: str, number: int, size: int) -> dict[AgentID, int]:
    """Of these agents' observations: "kind_0", "kind_1", ... to their size."""
    return {f"{kind}_{i}": size for i in range(number)}


def refusal(setting: str, why: str, value: str = "...") -> TeamError:
    """The error for a setting, with the call that mends it."""
    return TeamError(
        f'{why} Mend it with config.environment("cooperative_mpe", '
        f'env_config={{"{setting}": {value}}}).'
    )
