"""Rover tower: towers tell rovers where to drive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_hetero.envs.cooperative_mpe.frame import Mark
from rllib_hetero.envs.cooperative_mpe.game import NUM_ACTIONS, CooperativeGame, sizes_of
from rllib_hetero.envs.cooperative_mpe.physics import DIRECTIONS, THRUST, move


class RoverTower(CooperativeGame):
    """Towers tell rovers, who do not see them, which landmark to drive to.

    Every tower is paired with one rover, and knows the goal. In each step it says one of five
    symbols, which its rover observes right after that step. Nothing collides.

    The agents are "rover_0", ..., then "tower_0", ... Counted for `episode_metrics`: the
    rovers "at_goal" in the latest step.

    Args:
        num_pairs: P.
        num_landmarks: L.
        settings: As in `CooperativeGame`.
    """

    ROVER_RADIUS, LANDMARK_RADIUS = 0.075, 0.04

    ARRIVED = 10.0  # to both of a pair, in each step in which its rover is near the goal
    NEAR = (ROVER_RADIUS + LANDMARK_RADIUS) * 1.5  # of the *squared* distance, as published

    def __init__(self, *, num_pairs: int, num_landmarks: int, **settings: Any) -> None:
        rovers = sizes_of("rover", num_pairs, num_pairs + NUM_ACTIONS + 4)
        towers = sizes_of("tower", num_pairs, num_pairs + 4)
        super().__init__({**rovers, **towers}, **settings)

        num_envs, self._pairs = self.num_envs, num_pairs
        self._position = np.zeros((num_envs, num_pairs, 2))  # of the rovers
        self._velocity = np.zeros((num_envs, num_pairs, 2))
        self._tower = np.zeros((num_envs, num_pairs, 2))  # positions; only pictures show them
        self._landmark = np.zeros((num_envs, num_landmarks, 2))  # positions
        # For each rover: the number of its tower, its goal, and what it is told.
        self._tower_of = np.zeros((num_envs, num_pairs), np.int64)
        self._goal = np.zeros((num_envs, num_pairs), np.int64)
        self._message = np.zeros((num_envs, num_pairs, NUM_ACTIONS))

    def _place(self, e: int) -> None:
        random = self._random[e]
        self._tower_of[e] = random.permutation(self._pairs)
        self._goal[e] = random.integers(self._landmark.shape[1], size=self._pairs)
        for x in (self._position, self._tower, self._landmark):
            x[e] = random.uniform(-1.0, 1.0, x.shape[1:])
        self._velocity[e] = 0.0
        self._message[e] = 0.0

    def _move(self, actions: np.ndarray) -> None:
        driven, said = actions[:, : self._pairs], actions[:, self._pairs :]
        move(self._position, self._velocity, THRUST * DIRECTIONS[driven])
        self._message = np.eye(NUM_ACTIONS)[np.take_along_axis(said, self._tower_of, 1)]

    def _measure(self) -> None:
        self._goal_position = np.take_along_axis(self._landmark, self._goal[..., None], 1)
        self._squared = np.square(self._goal_position - self._position).sum(-1)

    def _rewards(self) -> np.ndarray:
        rovers = -self._squared + self.ARRIVED * (self._squared < self.NEAR)
        towers = np.take_along_axis(rovers, self._rover_of, 1)
        return np.concatenate([rovers, towers], axis=1)

    @property
    def _rover_of(self) -> np.ndarray:
        """(E, P) the number of each tower's rover."""
        return self._tower_of.argsort(1)

    def _observe(self, envs: Sequence[int] | slice) -> None:
        numbers = np.eye(self._pairs)
        position, velocity = self._position[envs], self._velocity[envs]
        rover_of = self._rover_of[envs]
        rovers = np.concatenate(
            [numbers[self._tower_of[envs]], self._message[envs], position, velocity], -1
        )
        pair = np.concatenate([position, self._goal_position[envs]], -1)
        towers = np.concatenate(
            [numbers[rover_of], np.take_along_axis(pair, rover_of[..., None], 1)], -1
        )
        seen = [*rovers.swapaxes(0, 1), *towers.swapaxes(0, 1)]
        for agent, x in zip(self.team.agents, seen, strict=True):
            self.observations[agent][envs] = x

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        return {"at_goal": (self._squared[envs] < self.NEAR).sum(1)}

    def _marks(self, e: int) -> list[Mark]:
        goals = [  # wider ones behind, so that all rovers that share a goal are seen
            Mark(x, self.LANDMARK_RADIUS + 0.02 * (i + 1), i)
            for i, x in enumerate(self._goal_position[e])
        ]
        landmarks = [Mark(x, self.LANDMARK_RADIUS, None) for x in self._landmark[e]]
        said = [str(m.argmax()) if m.any() else "" for m in self._message[e]]
        towers = [
            Mark(self._tower[e, t], 0.075, i, f"T{t}\n{said[i]}".strip(), square=True)
            for i, t in enumerate(self._tower_of[e])
        ]
        rovers = [
            Mark(x, self.ROVER_RADIUS, i, f"R{i}\n{said[i]}".strip())
            for i, x in enumerate(self._position[e])
        ]
        return [*goals[::-1], *landmarks, *towers, *rovers]
