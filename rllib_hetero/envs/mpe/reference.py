"""Simple reference: each tells the other where to go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_hetero.envs.mpe.game import MPEGame, Role
from rllib_hetero.envs.particles import between


class SimpleReference(MPEGame):
    """Two agents move and speak; each alone knows to which of three landmarks the other is to go.

    Own reward: minus the other's distance from its goal. Common: the mean of both. An agent sees
    its velocity, where the landmarks are from it, the colour of the other's goal, and what the
    other has said.
    """

    module = "simple_reference_v3"
    COLOURS = np.array([[0.75, 0.25, 0.25], [0.25, 0.75, 0.25], [0.25, 0.25, 0.75]])
    VOCABULARY = 10

    def __init__(self, **settings: Any) -> None:
        agents = ("agent_0", "agent_1")
        # Of each agent, the landmark that the other is to go to.
        self._goal = np.zeros((settings["num_envs"], 2), np.int64)
        super().__init__(
            dict.fromkeys(agents, Role(moves=True, speaks=True)),
            dict.fromkeys(agents, 2 + 6 + 3 + self.VOCABULARY),
            num_landmarks=3,
            vocabulary=self.VOCABULARY,
            **settings,
        )

    def _draw_goals(self, e: int) -> None:
        self._goal[e] = [int(self._random[e].integers(3)) for _ in range(2)]

    def _measure(self) -> None:
        self._to_landmarks, distances = between(self._position, self._landmark)
        self._distances = np.take_along_axis(distances[:, ::-1], self._goal[..., None], 2)[..., 0]

    def _own_rewards(self) -> np.ndarray:
        return -self._distances

    def _common_reward(self) -> np.ndarray:
        return -self._distances.mean(1)

    def _observe(self, envs: Sequence[int] | slice) -> None:
        to_landmarks = self._to_landmarks[envs]
        seen = [
            self._velocity[envs],
            to_landmarks.reshape(*to_landmarks.shape[:2], -1),
            self.COLOURS[self._goal[envs]],
            self._said[envs][:, ::-1],
        ]
        columns = np.concatenate(seen, -1)
        for i, x in enumerate(self.observations.values()):
            x[envs] = columns[:, i]

    def _dress(self, world: Any, e: int) -> None:
        for agent, goal in zip(world.agents, self._goal[e, ::-1], strict=True):
            agent.color = self.COLOURS[goal]
