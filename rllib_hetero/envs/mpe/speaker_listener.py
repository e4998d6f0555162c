"""Simple speaker listener: one knows where to go, the other goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_hetero.envs.mpe.game import MPEGame, Role
from rllib_hetero.envs.particles import between


class SimpleSpeakerListener(MPEGame):
    """The speaker sees the goal's colour alone; the listener does not, and moves.

    Both get minus the squared distance of the listener from the goal. The listener sees its
    velocity, where the three landmarks are from it, and what was said.
    """

    module = "simple_speaker_listener_v4"
    COLOURS = np.array([[0.65, 0.15, 0.15], [0.15, 0.65, 0.15], [0.15, 0.15, 0.65]])
    BRIGHTER = 0.45  # than its goal's, a listener's colour in pictures

    def __init__(self, **settings: Any) -> None:
        self._goal = np.zeros(settings["num_envs"], np.int64)
        super().__init__(
            {
                "speaker_0": Role(moves=False, speaks=True),
                "listener_0": Role(moves=True, speaks=False),
            },
            {"speaker_0": 3, "listener_0": 2 + 6 + 3},
            num_landmarks=3,
            vocabulary=3,
            **settings,
        )

    def _draw_goals(self, e: int) -> None:
        self._goal[e] = int(self._random[e].integers(3))

    def _measure(self) -> None:
        offsets, _ = between(self._position[:, 1:], self._landmark)
        self._to_landmarks = offsets[:, 0]

    def _own_rewards(self) -> np.ndarray:
        to_goal = self._to_landmarks[np.arange(self.num_envs), self._goal]
        return np.repeat(-np.square(to_goal).sum(-1, keepdims=True), 2, axis=1)

    def _observe(self, envs: Sequence[int] | slice) -> None:
        self.observations["speaker_0"][envs] = self.COLOURS[self._goal[envs]]
        to_landmarks = self._to_landmarks[envs]
        self.observations["listener_0"][envs] = np.concatenate(
            [
                self._velocity[envs, 1],
                to_landmarks.reshape(len(to_landmarks), -1),
                self._said[envs, 0],
            ],
            -1,
        )

    def _dress(self, world: Any, e: int) -> None:
        world.agents[1].color = self.COLOURS[self._goal[e]] + self.BRIGHTER
