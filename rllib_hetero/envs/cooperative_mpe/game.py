"""What the cooperative particle games have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete

from rllib_hetero.envs.cooperative_mpe.frame import Mark, draw
from rllib_hetero.envs.particles import ParticleGame
from rllib_hetero.errors import TeamError
from rllib_hetero.team import AgentID

NUM_ACTIONS = 5
"""Directions to move in, or symbols to say."""


class CooperativeGame(ParticleGame):
    """A game in which everyone chooses one of five things, with pictures.

    What the games count besides the return is in `episode_metrics`.

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
        choices: dict[AgentID, gym.Space] = {a: Discrete(NUM_ACTIONS) for a in observation_sizes}
        super().__init__(observation_sizes, choices, max_cycles=max_cycles, num_envs=num_envs)
        self._render_mode = render_mode

    @abstractmethod
    def _move(self, actions: np.ndarray) -> None:
        """Does what the agents chose, actions (E, n)."""

    @abstractmethod
    def _marks(self, e: int) -> list[Mark]:
        """What a picture of environment e shows."""

    def _act(self, actions: dict[AgentID, np.ndarray]) -> None:
        self._move(np.stack([actions[a] for a in self.team.agents], axis=1))

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
