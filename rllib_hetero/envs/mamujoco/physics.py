"""E copies of one robot: one model, a state of their own for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np


class Robots:
    """Robots of gymnasium, begun by their own code, and stepped around it.

    A robot's own step assembles an observation and a dict of infos, which takes as long as the
    physics of a small robot. Here the numbers that are needed are copied into rows (E, f) instead.

    Args:
        robot: What `gymnasium.make(...).unwrapped` is, never reset so far; the first of them.
        num_envs: E.
        fields: Names of arrays of `mujoco.MjData` to be copied after each reset and step.
        contacts: Whether forces of contacts (`cfrc_ext`) are needed. They cost a call.

    Attributes:
        robots: E robots of gymnasium. Only the first one draws.
        data: The physics' state of each.
        fields: Name to its columns of the rows, (E, size) float64 views.
    """

    def __init__(self, robot: Any, num_envs: int, fields: Sequence[str], *, contacts: bool) -> None:
        self.robots = [robot, *(_copy_of(robot) for _ in range(num_envs - 1))]
        self.data = [r.data for r in self.robots]
        self._model, self._frames = robot.model, robot.frame_skip
        self._contacts = contacts
        arrays = [[getattr(d, f).reshape(-1) for f in fields] for d in self.data]
        ends = np.cumsum([0, *(x.size for x in arrays[0])])
        rows = np.zeros((num_envs, ends[-1]))
        self.fields = {f: rows[:, i:j] for f, i, j in zip(fields, ends[:-1], ends[1:], strict=True)}
        # What the loop over robots needs: the state, its controls, its arrays, its row.
        self._each = [
            (d, d.ctrl, x, row) for d, x, row in zip(self.data, arrays, rows, strict=True)
        ]

    def reset(self, e: int, seed: int | None) -> dict[str, Any]:
        """Begins an episode of robot e; returns gymnasium's info."""
        _, info = self.robots[e].reset(seed=seed)
        _, _, arrays, row = self._each[e]
        np.concatenate(arrays, out=row)
        return info

    def step(self, actions: np.ndarray) -> None:
        """Does what the actions (E, joints) float64 say, for as long as the robot's step takes."""
        model, frames, contacts = self._model, self._frames, self._contacts
        for (data, controls, arrays, row), action in zip(self._each, actions, strict=True):
            controls[:] = action
            mujoco.mj_step(model, data, nstep=frames)
            if contacts:
                mujoco.mj_rnePostConstraint(model, data)
            np.concatenate(arrays, out=row)


def _copy_of(robot: Any) -> Any:
    """A robot with the same model and a state of its own; the first reset gives it a generator."""
    # Not `copy`, which makes it anew from a file that need not be there any more.
    other = object.__new__(type(robot))
    other.__dict__.update(robot.__dict__)
    other.data = mujoco.MjData(robot.model)
    other.render_mode = None  # The first one's renderer shows the first one.
    return other
