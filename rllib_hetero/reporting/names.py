"""What an environment, a task and the files about them are called."""

from __future__ import annotations

import json
import re
from typing import Any

from rllib_hetero.envs.mpe import DEFAULT_SCENARIO
from rllib_hetero.plain import as_plain, name_of

_NAMED_BY = ("scenario", "game", "map", "agent_conf")
_UNLESS_GIVEN = {"mpe": {"scenario": DEFAULT_SCENARIO}}
_LONGEST = 100  # characters of a file's name, which may have 255 bytes with what is added to it
_IMPORTED = re.compile(r"[\w.]+:[\w.<>]+")


def env_id(env: Any) -> str:
    """A registered name as it is; a class or function as "module:name"."""
    return env if isinstance(env, str) else name_of(env)


def env_name(env: Any, env_config: Any) -> str:
    """What is trained on, by its settings ("HalfCheetah-6x1", "3m"), or the environment's name.

    Args:
        env: A registered name, a class or function, or what `env_id` made of one.
        env_config: The environment's settings.
    """
    options = {**_UNLESS_GIVEN.get(env_id(env), {}), **(env_config or {})}
    given = [str(as_plain(options[key])) for key in _NAMED_BY if key in options]
    return "-".join(given) or short_name(env)


def short_name(env: Any) -> str:
    """The environment's name without its module: "RescueTeam"."""
    name = env_id(env)
    if not isinstance(env, str) or _IMPORTED.fullmatch(name):
        name = name.rpartition(":")[2].rpartition("<locals>.")[2].strip("<>")
    return name


def task_name(env: Any, env_config: Any) -> str:
    """What is trained on, with what its short name leaves out: "climbing (length=5)"."""
    rest = {str(k): as_plain(v) for k, v in (env_config or {}).items() if k not in _NAMED_BY}
    shown = ", ".join(f"{k}={json.dumps(v)}" for k, v in sorted(rest.items()))
    name = env_name(env, env_config)
    return f"{name} ({shown})" if shown else name


def as_file_name(text: str) -> str:
    """The text as the name of a file or folder: letters, digits and `_.+-`, not too many."""
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).lower()
    return re.sub(r"-{2,}", "-", name)[:_LONGEST].strip("-.") or "unnamed"
