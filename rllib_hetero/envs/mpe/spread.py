"""Simple spread: agents share out landmarks among themselves, and do not bump."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_hetero.envs.mpe.game import MPEGame, Role
from rllib_hetero.envs.mpe.physics import contact_forces
from rllib_hetero.envs.particles import between


class SimpleSpread(MPEGame):
    """N agents, N landmarks; nobody is told which landmark is whose.

    Own reward: -1 for each other agent touched. Common: minus the distance of every landmark from
    its nearest agent. An agent sees its velocity, its position, where the landmarks and the other
    agents are from it, and what they say: nothing.

    Args:
        N: How many.
        settings: As in `MPEGame`.
    """

    module = "simple_spread_v3"
    RADIUS = 0.15
    VOCABULARY = 2

    def __init__(self, *, N: int, **settings: Any) -> None:
        size = 4 + 2 * N + (N - 1) * (2 + self.VOCABULARY)
        agents = [f"agent_{i}" for i in range(N)]
        self._others = np.array([[j for j in range(N) if j != i] for i in range(N)], int)
        self._size = N
        super().__init__(
            dict.fromkeys(agents, Role(moves=True, speaks=False)),
            dict.fromkeys(agents, size),
            num_landmarks=N,
            vocabulary=self.VOCABULARY,
            **settings,
        )

    def _picture_env(self, **options: Any) -> Any:
        return super()._picture_env(N=self._size, **options)

    def _forces(self) -> np.ndarray:
        # Of the positions before the step, which were measured with the one before.
        return contact_forces(self._to_agents, self._agent_distances, self.RADIUS)

    def _measure(self) -> None:
        self._to_landmarks, self._landmark_distances = between(self._position, self._landmark)
        self._to_agents, self._agent_distances = between(self._position, self._position)

    def _own_rewards(self) -> np.ndarray:
        touching = self._agent_distances < 2 * self.RADIUS
        return 1.0 - touching.sum(2)  # everybody touches itself

    def _common_reward(self) -> np.ndarray:
        return -self._landmark_distances.min(1).sum(1)

    def _observe(self, envs: Sequence[int] | slice) -> None:
        n = self._size
        to_others = self._to_agents[envs][:, np.arange(n)[:, None], self._others]
        count = len(to_others)
        seen = [
            self._velocity[envs],
            self._position[envs],
            self._to_landmarks[envs].reshape(count, n, -1),
            to_others.reshape(count, n, -1),
        ]
        columns = np.concatenate(seen, -1)
        for i, x in enumerate(self.observations.values()):
            x[envs, : columns.shape[-1]] = columns[:, i]  # The rest is what they say.
