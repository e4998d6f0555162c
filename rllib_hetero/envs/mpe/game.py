"""What the cooperative MPE scenarios share: who moves, who speaks, the two parts of a reward."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from rllib_hetero.envs.mpe.physics import THRUST, move
from rllib_hetero.envs.particles import ParticleGame
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import AgentID

MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], float)
"""Action to direction: nothing, -x, +x, -y, +y."""


class Role(NamedTuple):
    """What an agent can do."""

    moves: bool
    speaks: bool


class MPEGame(ParticleGame):
    """E worlds of an `mpe2` scenario: the same numbers, step by step, from the same seeds.

    An agent that moves chooses one of five directions, or five numbers in [0, 1], clipped, of
    which the last four pull it left, right, down and up. One that speaks chooses one of C symbols,
    or C numbers in [0, 1]; what it says is heard right after the step. One that does both has
    5 C choices, c-th symbol and m-th move at 5 c + m, or 5 + C numbers.

    Args:
        cast: Agent id to its role, in order.
        observation_sizes: Agent id to d_i.
        num_landmarks: L.
        vocabulary: C.
        continuous_actions: Whether actions are numbers.
        max_cycles: Steps per episode.
        local_ratio: The share r of an agent's own reward; its reward is r own + (1 - r) common.
        render_mode: "rgb_array" if `render` is to be called, else None.
        dynamic_rescaling: Whether pictures zoom with the world.
        num_envs: E.

    Raises:
        MissingExtraError: If pictures are asked for, and `mpe2` is not installed.
    """

    module: ClassVar[str]
    """Of the scenario in `mpe2`."""

    def __init__(
        self,
        cast: Mapping[AgentID, Role],
        observation_sizes: Mapping[AgentID, int],
        *,
        num_landmarks: int,
        vocabulary: int,
        continuous_actions: bool,
        max_cycles: int,
        local_ratio: float = 1.0,
        render_mode: str | None,
        dynamic_rescaling: bool,
        num_envs: int,
    ) -> None:
        spaces = {a: _space(role, vocabulary, continuous_actions) for a, role in cast.items()}
        super().__init__(observation_sizes, spaces, max_cycles=max_cycles, num_envs=num_envs)
        n = len(cast)
        self._cast = dict(cast)
        self._continuous = continuous_actions
        self._local_ratio = local_ratio
        self._position = np.zeros((num_envs, n, 2))
        self._velocity = np.zeros((num_envs, n, 2))
        self._landmark = np.zeros((num_envs, num_landmarks, 2))  # positions
        self._said = np.zeros((num_envs, n, vocabulary))
        self._thrust = np.zeros((num_envs, n, 2))
        self._extent = np.ones(num_envs)  # of the world at the episode's start, for pictures
        self._mpe2 = None
        if render_mode is not None:
            options = {"continuous_actions": continuous_actions, "max_cycles": max_cycles}
            self._mpe2 = self._picture_env(dynamic_rescaling=dynamic_rescaling, **options)

    # ---- what a scenario supplies ------------------------------------------------------------

    def _draw_goals(self, e: int) -> None:
        """Draws what an episode is about, before anybody is placed."""

    @abstractmethod
    def _own_rewards(self) -> np.ndarray:
        """(E, n) what each agent gets for itself."""

    def _common_reward(self) -> np.ndarray:
        """(E,) what all get alike."""
        return np.zeros(self.num_envs)

    def _forces(self) -> np.ndarray | float:
        """(E, n, 2) on the agents, beside their own thrust."""
        return 0.0

    def _dress(self, world: Any, e: int) -> None:
        """Paints the discs of `mpe2`'s world as environment e has them."""

    # ---- the episode -------------------------------------------------------------------------

    def _place(self, e: int) -> None:
        # The draws of mpe2's `reset_world`, in its order.
        self._draw_goals(e)
        n = self._position.shape[1]
        places = self._random[e].uniform(-1.0, 1.0, (n + self._landmark.shape[1], 2))
        self._position[e], self._landmark[e] = places[:n], places[n:]
        self._velocity[e] = 0.0
        self._said[e] = 0.0
        self._extent[e] = np.abs(places).max()

    def _act(self, actions: dict[AgentID, np.ndarray]) -> None:
        for i, (agent, role) in enumerate(self._cast.items()):
            chosen = actions[agent]
            if self._continuous:
                chosen = chosen.clip(0.0, 1.0)
                if role.moves:
                    self._thrust[:, i] = chosen[:, 2:5:2] - chosen[:, 1:4:2]
                if role.speaks:
                    self._said[:, i] = chosen[:, 5 if role.moves else 0 :]
                continue
            symbols, moves = np.divmod(chosen, len(MOVES)) if role.moves else (chosen, None)
            if moves is not None:
                self._thrust[:, i] = MOVES[moves]
            if role.speaks:
                self._said[:, i] = np.eye(self._said.shape[-1])[symbols]
        move(self._position, self._velocity, THRUST * self._thrust + self._forces())

    def _rewards(self) -> np.ndarray:
        own, common = self._own_rewards(), self._common_reward()[:, None]
        return common * (1.0 - self._local_ratio) + own * self._local_ratio

    # ---- pictures ----------------------------------------------------------------------------

    def render(self) -> np.ndarray:
        """`mpe2`'s picture of environment 0, (700, 700, 3) uint8.

        Raises:
            TeamError: If the environment was made without a render mode.
        """
        if self._mpe2 is None:
            raise TeamError(
                "The environment was made without `render_mode`, so it has no pictures. Mend it "
                'with config.environment("mpe", env_config={"render_mode": "rgb_array"}).'
            )
        world = self._mpe2.world
        for i, agent in enumerate(world.agents):
            agent.state.p_pos, agent.state.c = self._position[0, i], self._said[0, i]
        for landmark, position in zip(world.landmarks, self._landmark[0], strict=True):
            landmark.state.p_pos = position
        self._dress(world, 0)
        self._mpe2.original_cam_range = self._extent[0]
        return self._mpe2.render()

    def _picture_env(self, **options: Any) -> Any:
        try:
            module = importlib.import_module(f"mpe2.{self.module}")
        except ImportError as error:
            raise MissingExtraError("mpe2", extra="mpe") from error
        env = module.raw_env(render_mode="rgb_array", **options)
        env.reset(seed=0)
        return env

    def close(self) -> None:
        if self._mpe2 is not None:
            self._mpe2.close()


def _space(role: Role, vocabulary: int, continuous: bool) -> gym.Space:
    moves = len(MOVES) if role.moves else 0
    if continuous:
        return Box(0.0, 1.0, (moves + vocabulary * role.speaks,), np.float32)
    return Discrete((moves or 1) * (vocabulary if role.speaks else 1))
