"""Pictures, drawn by `mujoco` from what is observed.

`envpool` can draw, too, but where it finds no OpenGL it ends the process.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from rllib_hetero.envs.bimanual.tasks import Task, target_of_box

_SIZE = 480
_CAMERA = "teleoperator_pov"


class Camera:
    """Looks at the table.

    Args:
        task: The task, whose model is read from `envpool`'s files.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._model = mujoco.MjModel.from_xml_path(model_file(task))
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, _SIZE, _SIZE)

    def picture(self, seen: np.ndarray) -> np.ndarray:
        """(480, 480, 3) uint8 of what is observed (s,)."""
        self._data.qpos[:] = seen[: self._task.positions]
        if self._task.has_box:
            self._data.mocap_pos[0] = target_of_box(seen)
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera=_CAMERA)
        return self._renderer.render()

    def close(self) -> None:
        """Releases the picture's memory."""
        self._renderer.close()


def model_file(task: Task) -> str:
    """The path of the task's model, among `envpool`'s files."""
    import envpool

    folder = Path(envpool.make_spec(task.env_id).config.base_path)
    scenes = folder / "mujoco/playground/assets/mujoco_playground/_src/manipulation/aloha/xmls"
    return str(scenes / task.model)
