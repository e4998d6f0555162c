"""Where `gfootball` is imported, and a game is made."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from rllib_hetero.errors import MissingExtraError

_SYSTEM = (
    "libgl1 libegl1 libgl1-mesa-dri libsdl2-2.0-0 libsdl2-image-2.0-0 libsdl2-ttf-2.0-0 "
    "libsdl2-gfx-1.0-0 libboost-python1.74.0 libboost-thread1.74.0 libboost-system1.74.0 "
    "libboost-filesystem1.74.0\nThe game itself is compiled from source. This script of the "
    "repository does it once, and installs all of the above:\n"
    "  scripts/build_football_wheel.sh FOLDER PYTHON"
)


def make_core(scenario: str, num_agents: int) -> tuple[Any, Any]:
    """Makes a game of `num_agents` controlled players of the left team.

    Returns:
        The library's `FootballEnvCore`, the game below its gym wrappers, and its `Config`.

    Raises:
        MissingExtraError: If gfootball, or a library it is linked to, is missing.
    """
    try:
        import gfootball_engine  # noqa: F401  gfootball only prints that this one is missing

        with gym_stand_in():
            from gfootball.env.config import Config
            from gfootball.env.football_env_core import FootballEnvCore
    except ImportError as error:
        what = f"Google Research Football ({error})"
        raise MissingExtraError(what, extra="football", system=_SYSTEM) from error

    players = [f"agent:left_players={num_agents},right_players=0"]
    config = Config({"level": scenario, "players": players})
    return FootballEnvCore(config), config


@contextmanager
def gym_stand_in() -> Iterator[None]:
    """Lets `import gym` succeed where it is not installed, for as long as gfootball is imported.

    gfootball derives classes from gym's and registers its scenarios with it. Nothing of that is
    used here, and gym is no longer maintained: its last versions break gfootball's own wrappers.
    """
    if "gym" in sys.modules or importlib.util.find_spec("gym") is not None:
        yield
        return
    gym, envs, registration = map(ModuleType, ("gym", "gym.envs", "gym.envs.registration"))
    for name in ("Env", "Wrapper", "ObservationWrapper", "RewardWrapper"):
        setattr(gym, name, type(name, (), {}))
    setattr(registration, "register", lambda **_: None)  # noqa: B010  mypy knows no such attribute
    ours = {module.__name__: module for module in (gym, envs, registration)}
    sys.modules.update(ours)
    try:
        yield
    finally:
        # Others try `import gym` to see whether it is installed.
        for name in ours:
            del sys.modules[name]
