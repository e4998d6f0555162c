"""Which numbers of the physics make up an observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import mujoco
import numpy as np

_FIELDS = (
    *("qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext", "xpos"),
    *("ten_J", "ten_length", "ten_velocity"),
)
# Beyond the bounds of all that is clipped, and within them.
_SCALES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
_PROBES = 4  # of each scale

Fields = Mapping[str, np.ndarray]
"""Name of an array of `mujoco.MjData` to its numbers in k robots, (k, size)."""


class Section(NamedTuple):
    """Some columns of what can be seen.

    Attributes:
        fields: What they are computed from.
        compute: Fields to (k, size).
    """

    fields: tuple[str, ...]
    compute: Callable[[Fields], np.ndarray]


class Sight:
    """Observations of k robots by one index for each: what they select is found by trying.

    The library assembles every observation number by number, which costs as much as the physics
    of a small robot. Here it does so a few times, of random physics, and every number is looked up
    among all that can be seen. What is found is a plain copy, or a clipped one, the same to the
    last bit.

    Args:
        robot: Of gymnasium. Its physics is exchanged meanwhile.
        scenario: Its name.
        readers: Each returns an observation (d_i,), read from the robot's physics of the moment.

    Attributes:
        indices: For each reader its columns of `look`; None where it shows something else.
        fields: What `look` needs.
    """

    def __init__(
        self, robot: Any, scenario: str, readers: Sequence[Callable[[], np.ndarray]]
    ) -> None:
        seen, read = _try(robot, readers)
        sections = _sections(robot, scenario)
        columns = [s.compute(seen) for s in sections]
        found = [_find(x, np.concatenate(columns, axis=1)) for x in read]
        # Only what somebody sees is computed, and positions, so that there is something.
        of_section = np.repeat(np.arange(len(sections)), [c.shape[1] for c in columns])
        wanted = [of_section[index] for index in found if index is not None]
        used = np.unique(np.concatenate([[0], *wanted]))
        self._sections = [sections[i] for i in used]
        place = np.cumsum(np.isin(of_section, used)) - 1
        self.indices = [None if index is None else place[index] for index in found]
        self.fields = list(dict.fromkeys(f for s in self._sections for f in s.fields))

    def look(self, fields: Fields) -> np.ndarray:
        """(k, p) float32: all that anybody sees."""
        seen = [s.compute(fields) for s in self._sections]
        return np.concatenate(seen, axis=1, dtype=np.float32)


def _sections(robot: Any, scenario: str) -> list[Section]:
    """All that can be seen, plain first."""
    plain = [Section((f,), itemgetter(f)) for f in _FIELDS]
    low, high = getattr(robot, "_contact_force_range", (-1.0, 1.0))
    made = [
        Section(("qvel",), lambda x: x["qvel"].clip(-10.0, 10.0)),
        Section(("cfrc_ext",), lambda x: x["cfrc_ext"].clip(-1.0, 1.0)),
        Section(("cfrc_ext",), lambda x: x["cfrc_ext"].clip(low, high)),
        Section(("qpos",), lambda x: np.cos(x["qpos"])),
        Section(("qpos",), lambda x: np.sin(x["qpos"])),
    ]
    if scenario == "Reacher":
        tip, target = (_place(robot, body) for body in ("fingertip", "target"))
        made.append(Section(("xpos",), lambda x: x["xpos"][:, tip] - x["xpos"][:, target]))
    return plain + made


def _place(robot: Any, body: str) -> slice:
    """Columns of a body's place among those of all bodies."""
    start = 3 * robot.model.body(body).id
    return slice(start, start + 3)


def _try(
    robot: Any, readers: Sequence[Callable[[], np.ndarray]]
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """What k random states of the physics hold, and what is read in them, (k, d_i) each."""
    rng = np.random.default_rng(0)
    own, robot.data = robot.data, mujoco.MjData(robot.model)
    arrays = {f: getattr(robot.data, f) for f in _FIELDS}
    states, read = [], []
    try:
        for scale in np.repeat(_SCALES, _PROBES):
            for x in arrays.values():
                x[...] = rng.uniform(-scale, scale, x.shape)
            states.append([x.reshape(-1).copy() for x in arrays.values()])
            read.append([reader() for reader in readers])
    finally:
        robot.data = own
    seen = dict(zip(arrays, map(np.array, zip(*states, strict=True)), strict=True))
    return seen, [np.array(x, np.float64) for x in zip(*read, strict=True)]


def _find(read: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    """Where each of what was read (k, d) is among the columns (k, p); None if one is not."""
    same = (read[:, :, None] == columns[:, None, :]).all(0)
    return same.argmax(1) if same.any(1).all() else None
