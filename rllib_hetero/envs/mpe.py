"""The cooperative particle environments (MPE) of the `mpe2` package."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from rllib_hetero.envs.pettingzoo import PettingZooTeamEnv
from rllib_hetero.errors import MissingExtraError, TeamError

SCENARIOS = {
    "simple_spread": "simple_spread_v3",
    "simple_reference": "simple_reference_v3",
    "simple_speaker_listener": "simple_speaker_listener_v4",
}
"""Scenario to its module in `mpe2`."""


def make_mpe(env_config: Mapping[str, Any]) -> PettingZooTeamEnv:
    """Makes an MPE team.

    Every agent has a reward of its own; the team's reward is their sum.

    Args:
        env_config: "scenario", a key of `SCENARIOS`; "continuous_actions", True by default; the
            rest goes to mpe2's `parallel_env` (N, max_cycles, local_ratio, render_mode, ...).

    Raises:
        MissingExtraError: If `mpe2` is not installed.
        TeamError: For an unknown scenario or keyword.
    """
    options = {"continuous_actions": True, **env_config}
    options.pop("num_envs", None)  # meant for environments that are batched by nature
    scenario = options.pop("scenario", None)
    if scenario not in SCENARIOS:
        raise TeamError(
            f"Unknown MPE scenario {scenario!r}. Choose one of {list(SCENARIOS)} with "
            'config.environment("mpe", env_config={"scenario": ...}).'
        )
    try:
        module = importlib.import_module(f"mpe2.{SCENARIOS[scenario]}")
    except ImportError as error:
        raise MissingExtraError("mpe2", extra="mpe") from error

    accepted = list(inspect.signature(module.raw_env).parameters)
    unknown = [key for key in options if key not in accepted]
    if unknown:
        raise TeamError(
            f"The MPE scenario {scenario!r} does not know {unknown}. It accepts {accepted}. Mend "
            'it with config.environment("mpe", env_config={...}).'
        )
    # MPE's own state is exactly all observations, concatenated, and costs evaluating them a
    # second time. With None the critic concatenates the ones that are there already.
    return PettingZooTeamEnv(
        module.parallel_env(**options), reward_scheme="individual", state_space=None
    )
