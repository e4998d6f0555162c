"""SMAX: battles like the StarCraft Multi-Agent Challenge's, without StarCraft, from `jaxmarl`.

The game is that of Rutherford et al., "JaxMARL: Multi-Agent RL Environments and Algorithms in JAX"
(NeurIPS 2024). All battles of a runner are stepped by one compiled function on the CPU.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from rllib_hetero.envs.smax.battles import SMAXBattles, refusal
from rllib_hetero.errors import MissingExtraError

MAPS = {
    "3m": (3, 3),
    "8m": (8, 8),
    "25m": (25, 25),
    "2s3z": (5, 5),
    "3s5z": (8, 8),
    "5m_vs_6m": (5, 6),
    "10m_vs_11m": (10, 11),
    "27m_vs_30m": (27, 30),
    "3s5z_vs_3s6z": (8, 9),
    "3s_vs_5z": (3, 5),
    "6h_vs_8z": (6, 8),
    "smacv2_5_units": (5, 5),
    "smacv2_10_units": (10, 10),
    "smacv2_20_units": (20, 20),
}
"""Map to its numbers of allies and of enemies."""

SETTINGS: dict[str, Any] = {
    "max_steps": 101,
    "attack_mode": "closest",
    "enemy_shoots": True,
    "see_enemy_actions": True,
    "walls_cause_death": True,
    "won_battle_bonus": 1.0,
}
"""What may be set besides "map" and "render_mode", with its default, which plays jaxmarl's game."""

ATTACK_MODES = ("closest", "random")


def make_smax(env_config: Mapping[str, Any]) -> SMAXBattles:
    """Makes E battles against jaxmarl's scripted enemy, stepped as one.

    With "num_envs", the simulator is compiled at once, which takes seconds. Without it, as when
    the library only reads the spaces, that waits for the first reset.

    Args:
        env_config:
            "map": a key of `MAPS`.
            "max_steps": after how many steps a battle is cut for time; 101 by default, as jaxmarl's
                battles of 100 take one more.
            "attack_mode": whom the enemies shoot at, "closest" (the default) or "random".
            "enemy_shoots": whether they shoot at all; True by default.
            "see_enemy_actions": whether agents see what visible enemies did last; True by default.
            "walls_cause_death": whether the edge of the map kills; True by default.
            "won_battle_bonus": the reward for a victory, on top of that for damage; 1.0 by default.
            "render_mode": "rgb_array" if `render()` is to be called; None by default.
            "num_envs": E, set by the library.

    Raises:
        MissingExtraError: If `jaxmarl` is not installed.
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    num_envs = options.pop("num_envs", None)
    name = options.pop("map", None)
    if not isinstance(name, str) or name not in MAPS:
        raise refusal("map", f"Unknown `map` {name!r}. Choose one of {list(MAPS)}.")
    render_mode = options.pop("render_mode", None)
    if render_mode not in (None, "rgb_array"):
        why = f"`render_mode` must be 'rgb_array' or None, got {render_mode!r}."
        raise refusal("render_mode", why)
    unknown = [key for key in options if key not in SETTINGS]
    if unknown:
        accepted = ["map", *SETTINGS, "render_mode"]
        raise refusal(unknown[0], f"SMAX does not know {unknown}. It accepts {accepted}.")
    _check(options)
    if importlib.util.find_spec("jaxmarl") is None:
        raise MissingExtraError("jaxmarl (which needs Python 3.11 or newer)", extra="smax")
    battles = SMAXBattles(
        name,
        *MAPS[name],
        options={**SETTINGS, **options},
        render_mode=render_mode,
        num_envs=num_envs or 1,
    )
    if num_envs is not None:
        battles.compile()
    return battles


def _check(options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        default = SETTINGS[key]
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise refusal(key, f"`{key}` must be True or False, got {value!r}.")
        elif key == "attack_mode":
            if value not in ATTACK_MODES:
                raise refusal(key, f"`{key}` must be one of {list(ATTACK_MODES)}, got {value!r}.")
        elif key == "max_steps":
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise refusal(key, f"`{key}` must be an int of at least 1, got {value!r}.")
        elif not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
            raise refusal(key, f"`{key}` must be a finite number, got {value!r}.")
