"""The cooperative particle games of MAAC and of F2A2: treasure collection and rover tower.

The games are those of Iqbal and Sha, "Actor-Attention-Critic for Multi-Agent Reinforcement
Learning" (ICML 2019), which the F2A2 paper (JMLR 2023) takes over. They are written here as array
operations over E environments, not on `mpe2`'s core: the physics differs from it in nearly every
part (see `physics`), events come after the observations instead of before the rewards, and a
Python object for each disc would be many times slower. `mpe2`'s own `collect_treasure` is another
game.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_hetero.envs.cooperative_mpe.game import CooperativeGame, refusal
from rllib_hetero.envs.cooperative_mpe.rover_tower import RoverTower
from rllib_hetero.envs.cooperative_mpe.treasure_collection import TreasureCollection

SCENARIOS: dict[str, tuple[type[CooperativeGame], dict[str, int]]] = {
    "treasure_collection": (
        TreasureCollection,
        {"max_cycles": 100, "num_hunters": 6, "num_banks": 2, "num_treasures": 6},
    ),
    "rover_tower": (RoverTower, {"max_cycles": 25, "num_pairs": 4, "num_landmarks": 6}),
}
"""Scenario to its class, and its settings with their defaults."""


def make_cooperative_mpe(env_config: Mapping[str, Any]) -> CooperativeGame:
    """Makes a cooperative particle game, E copies stepped as one.

    Args:
        env_config:
            "scenario": a key of `SCENARIOS`.
            "max_cycles": steps per episode; 100 and 25 by default.
            "num_hunters", "num_banks", "num_treasures": of "treasure_collection" only; 6, 2 and 6
                by default.
            "num_pairs", "num_landmarks": of "rover_tower" only; 4 and 6 by default.
            "render_mode": "rgb_array" if `render()` is to be called; None by default.
            "num_envs": E, set by the library.

    Raises:
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    num_envs = options.pop("num_envs", 1)
    scenario = options.pop("scenario", None)
    if not isinstance(scenario, str) or scenario not in SCENARIOS:
        why = f"Unknown `scenario` {scenario!r}. Choose one of {list(SCENARIOS)}."
        raise refusal("scenario", why)
    game, defaults = SCENARIOS[scenario]
    render_mode = options.pop("render_mode", None)
    if render_mode not in (None, "rgb_array"):
        why = f"`render_mode` must be 'rgb_array' or None, got {render_mode!r}."
        raise refusal("render_mode", why)
    unknown = [key for key in options if key not in defaults]
    if unknown:
        accepted = ["scenario", *defaults, "render_mode"]
        why = f"The scenario {scenario!r} does not know {unknown}. It accepts {accepted}."
        raise refusal(unknown[0], why)
    for key, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise refusal(key, f"`{key}` must be an int of at least 1, got {value!r}.")
    return game(**{**defaults, **options}, render_mode=render_mode, num_envs=num_envs)
