"""The cooperative particle environments (MPE), stepped as one; the rest of `mpe2` beside them.

The three cooperative scenarios are written here as array operations over E worlds, with the
numbers of `mpe2` from the same seeds: there, a Python object for each disc takes four fifths of a
training run's sampling. `mpe2` itself is asked for pictures, and steps what is not written here.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from rllib_hetero.envs.mpe.game import MPEGame
from rllib_hetero.envs.mpe.reference import SimpleReference
from rllib_hetero.envs.mpe.speaker_listener import SimpleSpeakerListener
from rllib_hetero.envs.mpe.spread import SimpleSpread
from rllib_hetero.envs.mpe.turns import MPETeamEnv, make_turns
from rllib_hetero.errors import TeamError

_COMMON: dict[str, Any] = {
    "continuous_actions": True,
    "max_cycles": 25,
    "dynamic_rescaling": True,
    "render_mode": None,
}

SCENARIOS: dict[str, tuple[type[MPEGame], dict[str, Any]]] = {
    "simple_spread": (SimpleSpread, {"N": 3, "local_ratio": 0.5, **_COMMON}),
    "simple_reference": (SimpleReference, {"local_ratio": 0.5, **_COMMON}),
    "simple_speaker_listener": (SimpleSpeakerListener, _COMMON),
}
"""Scenario to its class, and its settings with their defaults."""

DEFAULT_SCENARIO = "simple_spread"
BACKENDS = ("batched", "mpe2")


def make_mpe(env_config: Mapping[str, Any]) -> MPEGame | MPETeamEnv:
    """Makes an MPE team.

    Every agent has a reward of its own; the team's reward is their sum.

    Args:
        env_config:
            "scenario": a key of `SCENARIOS`, or with "backend" "mpe2" any of mpe2's;
                "simple_spread" by default.
            "continuous_actions": True by default, unlike in mpe2.
            "max_cycles": steps per episode, 25 by default.
            "N": agents and landmarks of "simple_spread", 3 by default.
            "local_ratio": the share of an agent's own reward in [0, 1], 0.5 by default; not of
                "simple_speaker_listener".
            "render_mode": "rgb_array" if `render()` is to be called; None by default.
            "dynamic_rescaling": whether pictures zoom with the world; True by default.
            "backend": "batched" (the default), or "mpe2": its own code, one world after another,
                with every keyword of its `parallel_env`, and "reward_scheme".
            "num_envs": E, set by the library.

    Raises:
        MissingExtraError: If `mpe2` is needed and not installed.
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    num_envs = options.pop("num_envs", 1)
    scenario = options.pop("scenario", DEFAULT_SCENARIO)
    backend = options.pop("backend", "batched")
    if backend not in BACKENDS:
        raise _refusal("backend", f"`backend` must be one of {BACKENDS}, got {backend!r}.")
    if backend == "mpe2":
        return make_turns(scenario, {"continuous_actions": True, **options})
    if not isinstance(scenario, str) or scenario not in SCENARIOS:
        raise _refusal(
            "scenario",
            f"Unknown MPE scenario {scenario!r}. Choose one of {list(SCENARIOS)}, or another of "
            'mpe2\'s with "backend": "mpe2".',
        )
    game, defaults = SCENARIOS[scenario]
    unknown = [key for key in options if key not in defaults]
    if unknown:
        raise _refusal(
            unknown[0],
            f"The MPE scenario {scenario!r} does not know {unknown}. It accepts {list(defaults)}; "
            'with "backend": "mpe2", mpe2\'s own settings.',
        )
    _check(options)
    return game(**{**defaults, **options}, num_envs=num_envs)


def _check(options: Mapping[str, Any]) -> None:
    wanted = {
        **dict.fromkeys(("N", "max_cycles"), ("an integer of at least 1", _is_count)),
        **dict.fromkeys(
            ("continuous_actions", "dynamic_rescaling"),
            ("True or False", lambda x: isinstance(x, bool)),
        ),
        "local_ratio": ("a number in [0, 1]", _is_ratio),
        "render_mode": ("'rgb_array' or None", lambda x: x in ("rgb_array", None)),
    }
    for key, value in options.items():
        words, good = wanted[key]
        if not good(value):
            raise _refusal(key, f"`{key}` must be {words}, got {value!r}.")


def _is_count(x: Any) -> bool:
    return isinstance(x, numbers.Integral) and not isinstance(x, bool) and int(x) >= 1


def _is_ratio(x: Any) -> bool:
    return isinstance(x, numbers.Real) and not isinstance(x, bool) and 0 <= float(x) <= 1


def _refusal(setting: str, why: str) -> TeamError:
    return TeamError(
        f'{why} Mend it with config.environment("mpe", env_config={{"{setting}": ...}}).'
    )


__all__ = ["SCENARIOS", "MPEGame", "MPETeamEnv", "make_mpe"]
