"""MAgent2's battle: our team against another one, dozens to hundreds of agents a side.

The game is that of Zheng et al., "MAgent: A Many-Agent Reinforcement Learning Platform for
Artificial Collective Intelligence" (AAAI 2018), as the `magent2` package continues it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from rllib_hetero.envs.magent.battle import Battle
from rllib_hetero.envs.magent.engine import REWARDS, Engine, refusal
from rllib_hetero.envs.magent.opponents import OPPONENTS, TrainedOpponent

SCENARIOS = ("battle",)
"""What `"scenario"` may be."""

_SETTINGS = (
    *("scenario", "map_size", "max_cycles", "opponent", "state", "minimap_mode"),
    *(*REWARDS, "render_mode"),
)


def make_magent(env_config: Mapping[str, Any]) -> Battle:
    """Makes battles, E of them stepped as one.

    Args:
        env_config:
            "scenario": "battle".
            "map_size": side of the square map, at least 12; 45 by default. It decides the number
                of agents: 12 on 20, 64 on 40, 81 on 45, 256 on 80, 625 on 125.
            "max_cycles": steps after which a battle is cut; 400 by default.
            "opponent": "random" (the default), "idle", or the folder of a checkpoint of this
                library, trained in this game.
            "state": "minimap" (the default), a coarse map of both teams; None leaves the critic
                with all observations, concatenated.
            "minimap_mode": whether agents see a map of both teams; False by default.
            "step_reward", "dead_penalty", "attack_penalty", "attack_opponent_reward": numbers,
                see `engine.REWARDS`.
            "render_mode": "rgb_array" if `render()` is to be called; None by default.
            "num_envs": E, set by the library.

    Raises:
        MissingExtraError: If `magent2` is not installed.
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    num_envs = options.pop("num_envs", 1)
    unknown = [key for key in options if key not in _SETTINGS]
    if unknown:
        why = f"MAgent environments do not know {unknown}. They accept {list(_SETTINGS)}."
        raise refusal(unknown[0], why)
    _choose(options, "scenario", SCENARIOS)
    map_size = _whole_number(options, "map_size", 45, at_least=12)
    max_cycles = _whole_number(options, "max_cycles", 400, at_least=1)
    state = _choose(options, "state", ("minimap", None), "minimap")
    minimap_mode = _choose(options, "minimap_mode", (False, True), False)
    render_mode = _choose(options, "render_mode", (None, "rgb_array"), None)
    rewards = {name: _number(options, name, default) for name, default in REWARDS.items()}
    opponent = options.get("opponent", "random")
    if not isinstance(opponent, str | Path):
        raise refusal("opponent", f"`opponent` must be {_OPPONENT}, got {opponent!r}.")
    if opponent not in OPPONENTS:
        if not Path(opponent).is_dir():
            why = f"`opponent` must be {_OPPONENT}; there is no folder {str(opponent)!r}."
            raise refusal("opponent", why)
        if minimap_mode:
            why = (
                "An `opponent` out of a checkpoint sees the game from the other side, mirrored; "
                "the map that `minimap_mode` adds cannot be mirrored exactly."
            )
            raise refusal("minimap_mode", why, "False")
    engines = [
        Engine(map_size=map_size, minimap_mode=bool(minimap_mode), rewards=rewards)
        for _ in range(num_envs)
    ]
    return Battle(
        engines,
        OPPONENTS[opponent]() if opponent in OPPONENTS else TrainedOpponent(opponent, engines[0]),
        max_cycles=max_cycles,
        with_state=state is not None,
        render_mode=render_mode,
    )


_OPPONENT = f"one of {list(OPPONENTS)} or a checkpoint's folder"


def _choose(options: dict, key: str, choices: tuple, default: Any = ...) -> Any:
    value = options.get(key, default)
    # By type too: 0 is no False.
    if not any(type(value) is type(c) and value == c for c in choices):
        got = "nothing" if value is ... else repr(value)
        raise refusal(key, f"`{key}` must be one of {list(choices)}, got {got}.")
    return value


def _whole_number(options: dict, key: str, default: int, *, at_least: int) -> int:
    value = options.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise refusal(key, f"`{key}` must be an int of at least {at_least}, got {value!r}.")
    return value


def _number(options: dict, key: str, default: float) -> float:
    value = options.get(key, default)
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise refusal(key, f"`{key}` must be a finite number, got {value!r}.")
    return float(value)
