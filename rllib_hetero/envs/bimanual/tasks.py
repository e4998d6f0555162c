"""The tasks: where everything is in `envpool`'s observations, and what else is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEFT, RIGHT = "left_arm", "right_arm"

ACTIONS = 7
"""Of an arm: six joints and the gripper."""

PICKED, DROPPED = 0.15, 0.05
"""Heights in metres: the box was picked up once above the first, and is lost below the second."""

AT_TARGET = 0.05
"""Metres from the target within which the box counts as brought there."""

_BOX_TOP, _BOX_BOTTOM, _TO_TARGET = slice(49, 52), slice(52, 55), slice(79, 82)


@dataclass(frozen=True)
class Task:
    """A task of `envpool`.

    Attributes:
        env_id: Its name there.
        model: The file of its MuJoCo model.
        max_steps: Steps per episode.
        size: s, how many numbers `envpool` observes.
        parts: Arm to the numbers about that arm alone.
        objects: The numbers about everything else.
        positions: How many numbers at the start are MuJoCo's positions.
        clock: Which number is the share of the episode that has passed; None if there is none.
        final: Names and values (k,) of what is counted at the end of k episodes, from final
            observations (k, s) and the final unscaled reward for insertion (k,).
        has_box: Whether the task is about the box that must not be dropped.
    """

    env_id: str
    model: str
    max_steps: int
    size: int
    parts: dict[str, np.ndarray]
    objects: np.ndarray
    positions: int
    clock: int | None
    final: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
    has_box: bool


def height_of_box(seen: np.ndarray) -> np.ndarray:
    """(E,) metres above the table, from what is observed (E, s) of the hand-over."""
    return (seen[:, _BOX_TOP.stop - 1] + seen[:, _BOX_BOTTOM.stop - 1]) / 2


def target_of_box(seen: np.ndarray) -> np.ndarray:
    """(3,) metres, from what is observed (s,) of the hand-over."""
    return (seen[_BOX_TOP] + seen[_BOX_BOTTOM]) / 2 - seen[_TO_TARGET]


def _hand_over(seen: np.ndarray, insertion: np.ndarray) -> dict[str, np.ndarray]:
    distance = np.linalg.norm(seen[:, _TO_TARGET], axis=1)
    return {"success_rate": distance < AT_TARGET, "target_distance": distance}


def _peg_insertion(seen: np.ndarray, insertion: np.ndarray) -> dict[str, np.ndarray]:
    return {"success_rate": insertion > 0.0, "insertion": insertion}


# In both: the positions of the left arm's 8 joints, of the right one's, of the objects; then the
# velocities in the same order; then what is computed from them.
TASKS: dict[str, Task] = {
    "AlohaHandOver": Task(
        env_id="AlohaHandOver-v1",
        model="mjx_hand_over.xml",
        max_steps=250,
        size=83,
        # Joints, their velocities, the fingers' room around the box, the gripper's place and two
        # rows of its rotation.
        parts={LEFT: np.r_[0:8, 23:31, 45:47, 55:64], RIGHT: np.r_[8:16, 31:39, 47:49, 64:73]},
        # The box, its velocity, its two ends, two rows of its rotation, the way from the target,
        # the clock.
        objects=np.r_[16:23, 39:45, 49:55, 73:83],
        positions=23,
        clock=82,
        final=_hand_over,
        has_box=True,
    ),
    "AlohaSinglePegInsertion": Task(
        env_id="AlohaSinglePegInsertion-v1",
        model="mjx_single_peg_insertion.xml",
        max_steps=1000,
        size=82,
        # Joints, their velocities, the gripper's place.
        parts={LEFT: np.r_[0:8, 30:38, 58:61], RIGHT: np.r_[8:16, 38:46, 64:67]},
        # Socket and peg: positions, velocities, places, the two ends that must meet, their
        # upward directions.
        objects=np.r_[16:30, 46:58, 61:64, 67:82],
        positions=30,
        clock=None,
        final=_peg_insertion,
        has_box=False,
    ),
}
"""By the name that MuJoCo Playground gives them."""
