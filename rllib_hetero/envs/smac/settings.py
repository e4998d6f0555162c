"""Settings of the SMAC environments, checked before the game or its packages are touched."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

from rllib_hetero.envs.refusal import refusal as env_refusal

_FLAGS = (
    *("obs_all_health", "obs_own_health", "obs_last_action", "obs_own_pos"),
    *("obs_pathing_grid", "obs_terrain_height", "obs_timestep_number", "fully_observable"),
    *("state_last_action", "state_timestep_number", "use_unit_ranges", "conic_fov"),
    *("reward_sparse", "reward_only_positive", "reward_scale"),
)
_COUNTS = ("step_mul", "num_fov_actions", "window_size_x", "window_size_y")
_NUMBERS = (
    *("move_amount", "min_attack_range", "prob_obs_enemy", "reward_death_value", "reward_win"),
    *("reward_defeat", "reward_negative_scale", "reward_scale_rate"),
)
_TEXTS = ("game_version", "replay_dir", "replay_prefix")
_DIFFICULTIES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "A")
_PASSED_ON = (*_FLAGS, *_COUNTS, *_NUMBERS, *_TEXTS, "difficulty")
_OURS = ("map", "state", "step_timeout_s", "launch_timeout_s", "render_mode")
_STATES = ("all_units", "agent_specific")

_FIXED = {
    "map_name": "Its name here is `map`.",
    "capability_config": "It follows from `map`.",
    "continuing_episode": "It must be on, for otherwise smacv2 does not tell a lost battle from "
    "one that is cut for time.",
    "action_mask": "Masks are always on; policies of this library read them.",
    "obs_instead_of_state": "The critic is given all observations in place of the state by an "
    "environment without `state_space`; this one has the state.",
    "heuristic_ai": "The policies act here.",
    "heuristic_rest": "The policies act here.",
    "seed": "Seeds come from config.debugging(seed=...).",
}
"""Settings of smacv2 that are not the user's, and why."""


class Settings(NamedTuple):
    """A checked `env_config`.

    Attributes:
        map: Name of the task.
        state: "all_units" or "agent_specific".
        step_timeout_s: Seconds that a step, or a reset of a running game, may take.
        launch_timeout_s: Seconds that a reset may take which starts the game.
        render_mode: "rgb_array" or None.
        arguments: What goes on to smacv2's environment.
    """

    map: str
    state: str
    step_timeout_s: float
    launch_timeout_s: float
    render_mode: str | None
    arguments: dict[str, Any]


def read_settings(name: str, env_config: Mapping[str, Any], maps: Collection[str]) -> Settings:
    """Checks an `env_config`.

    Args:
        name: The registered name, for messages.
        env_config: As the user gave it.
        maps: The tasks there are.

    Raises:
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    options.pop("num_envs", None)  # meant for environments that are batched by nature

    refusal = partial(env_refusal, name)

    task = options.pop("map", None)
    if not isinstance(task, str) or task not in maps:
        raise refusal("map", f"Unknown `map` {task!r}. Choose one of {list(maps)}.")
    state = options.pop("state", _STATES[0])
    if state not in _STATES:
        raise refusal("state", f"`state` must be one of {list(_STATES)}, got {state!r}.")
    seconds = {"step_timeout_s": 60.0, "launch_timeout_s": 180.0}
    for key in seconds:
        value = options.pop(key, seconds[key])
        if not _is_number(value) or value <= 0:
            raise refusal(key, f"`{key}` must be a positive number of seconds, got {value!r}.")
        seconds[key] = float(value)
    render_mode = options.pop("render_mode", None)
    if render_mode not in (None, "rgb_array"):
        why = f"`render_mode` must be 'rgb_array' or None, got {render_mode!r}."
        raise refusal("render_mode", why)
    for key, value in options.items():
        if key in _FIXED:
            raise refusal(key, f"`{key}` cannot be set. {_FIXED[key]} Leave it out.")
        if key not in _PASSED_ON:
            accepted = [*_OURS, *sorted(_PASSED_ON)]
            raise refusal(key, f"SMAC does not know {key!r}. It accepts {accepted}.")
        expected = _expected(key, value)
        if expected:
            raise refusal(key, f"`{key}` must be {expected}, got {value!r}.")
    return Settings(task, state, render_mode=render_mode, arguments=options, **seconds)


def _expected(key: str, value: Any) -> str | None:
    """What the value should be, if it is not."""
    if key in _FLAGS:
        return None if isinstance(value, bool) else "True or False"
    if key in _COUNTS:
        ok = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return None if ok else "an int of at least 1"
    if key == "prob_obs_enemy":
        return None if _is_number(value) and 0 <= value <= 1 else "a number of 0 to 1"
    if key == "reward_scale_rate":
        return None if _is_number(value) and value > 0 else "a positive number"
    if key in _NUMBERS:
        return None if _is_number(value) else "a finite number"
    if key == "difficulty":
        return None if value in _DIFFICULTIES else f"one of {list(_DIFFICULTIES)}"
    optional = key == "game_version" and value is None
    return None if optional or isinstance(value, str) else "a string"


def _is_number(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x)
