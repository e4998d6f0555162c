"""Two ALOHA arms at one table, an agent each: tasks of MuJoCo Playground, stepped by `envpool`.

The tasks are those of Zakka et al., "MuJoCo Playground" (2025), as `envpool` has them in C++. They
stand in for Bi-DexterousHands, whose simulator can no longer be installed: two agents that must
work together with their hands, though grippers here and five fingers there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from rllib_hetero.envs.bimanual.table import TwoArms, refusal
from rllib_hetero.envs.bimanual.tasks import TASKS
from rllib_hetero.errors import MissingExtraError

OBSERVE = ("own", "all")
"""What `"observe"` may be."""

_SETTINGS = ("task", "observe", "max_steps", "num_threads", "render_mode")


def make_bimanual(env_config: Mapping[str, Any]) -> TwoArms:
    """Makes a task for two arms, E copies stepped as one.

    Args:
        env_config:
            "task": a key of `TASKS`.
            "observe": "own" (the default), each arm observes itself and the objects; "all", each
                observes the other arm, too.
            "max_steps": steps after which an episode is cut; 250 and 1000 by default.
            "num_threads": of the simulator, in each runner; 1 by default.
            "render_mode": "rgb_array" if `render()` is to be called; None by default.
            "num_envs": E, set by the library.

    Raises:
        MissingExtraError: If `envpool` is not installed, or `mujoco`, which draws the pictures.
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    num_envs = options.pop("num_envs", 1)
    unknown = [key for key in options if key not in _SETTINGS]
    if unknown:
        why = f"Bimanual tasks do not know {unknown}. They accept {list(_SETTINGS)}."
        raise refusal(unknown[0], why)
    name = options.get("task")
    if not isinstance(name, str) or name not in TASKS:
        raise refusal("task", f"Unknown `task` {name!r}. Choose one of {list(TASKS)}.")
    task = TASKS[name]
    observe = options.get("observe", OBSERVE[0])
    if not isinstance(observe, str) or observe not in OBSERVE:
        raise refusal("observe", f"`observe` must be one of {list(OBSERVE)}, got {observe!r}.")
    numbers = {"max_steps": task.max_steps, "num_threads": 1}
    for key in numbers:
        value = options.get(key, numbers[key])
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise refusal(key, f"`{key}` must be an int of at least 1, got {value!r}.")
        numbers[key] = value
    render_mode = options.get("render_mode")
    if render_mode not in (None, "rgb_array"):
        why = f"`render_mode` must be 'rgb_array' or None, got {render_mode!r}."
        raise refusal("render_mode", why)
    for package in ("envpool", "mujoco") if render_mode else ("envpool",):
        if importlib.util.find_spec(package) is None:
            what = package if package == "mujoco" else "envpool (which needs Python 3.11 or newer)"
            raise MissingExtraError(what, extra="hands")
    return TwoArms(
        task,
        sees_all=observe == "all",
        max_steps=numbers["max_steps"],
        num_threads=numbers["num_threads"],
        render_mode=render_mode,
        num_envs=num_envs,
    )
