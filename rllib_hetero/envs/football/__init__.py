"""Google Research Football: academy tasks, 5-vs-5 and 11-vs-11 (Kurach et al., AAAI 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rllib_hetero.envs.football.engine import make_core
from rllib_hetero.envs.football.game import FootballTeamEnv
from rllib_hetero.envs.refusal import refusal as env_refusal

SCENARIOS: dict[str, tuple[int, int]] = {
    "academy_pass_and_shoot_with_keeper": (2, 3),
    "academy_run_pass_and_shoot_with_keeper": (2, 3),
    "academy_3_vs_1_with_keeper": (3, 4),
    "academy_counterattack_easy": (4, 11),
    "academy_counterattack_hard": (4, 11),
    "academy_corner": (11, 11),
    "5_vs_5": (4, 4),
    "11_vs_11_easy_stochastic": (11, 11),
    "11_vs_11_stochastic": (11, 11),
    "11_vs_11_hard_stochastic": (11, 11),
}
"""Scenario to the number of agents by default, which is HARL's where it has the scenario, and the
largest one."""

REWARDS = ("scoring,checkpoints", "scoring")


def make_football(env_config: Mapping[str, Any]) -> FootballTeamEnv:
    """Makes a football team.

    Args:
        env_config:
            "scenario": a key of `SCENARIOS`.
            "num_agents": how many players of the left team are agents; the built-in AI plays the
                others. The scenario's own number by default.
            "rewards": "scoring,checkpoints" (default): +1 for a goal, -1 for one conceded, and 0.1
                for each of ten distances to the goal at which a player has had the ball.
                "scoring": the goals alone.
            "representation": "simple115v2" (default), 115 numbers for each agent. Those of
                gfootball's other representations are pictures or dicts.
            "reward_scheme": "shared" (default): all agents are given the reward of player_0, as
                in HARL. "individual": every agent its own.
            "max_steps": truncates episodes earlier than the scenario does (400 steps in the
                academy, 3000 in matches).
            "render_mode": "rgb_array" if `render()` is to be called; None by default.

    Raises:
        MissingExtraError: If gfootball is not installed.
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    options.pop("num_envs", None)  # meant for environments that are batched by nature
    scenario = options.pop("scenario", None)
    if not isinstance(scenario, str) or scenario not in SCENARIOS:
        why = f"Unknown `scenario` {scenario!r}. Choose one of {list(SCENARIOS)}."
        raise _refusal("scenario", why)
    default, largest = SCENARIOS[scenario]
    num_agents = options.pop("num_agents", default)
    if not _is_int(num_agents) or not 1 <= num_agents <= largest:
        why = f"`num_agents` must be an int from 1 to {largest} in {scenario}, got {num_agents!r}."
        raise _refusal("num_agents", why)
    _choose(options, "representation", ("simple115v2",))
    rewards = _choose(options, "rewards", REWARDS)
    reward_scheme = _choose(options, "reward_scheme", ("shared", "individual"))
    render_mode = _choose(options, "render_mode", (None, "rgb_array"))
    max_steps = options.pop("max_steps", None)
    if max_steps is not None and (not _is_int(max_steps) or max_steps < 1):
        why = f"`max_steps` must be None or an int of at least 1, got {max_steps!r}."
        raise _refusal("max_steps", why)
    if options:
        accepted = ["scenario", "num_agents", "rewards", "representation", "reward_scheme"]
        accepted += ["max_steps", "render_mode"]
        why = f"Football does not know {list(options)}. It accepts {accepted}."
        raise _refusal(next(iter(options)), why)

    core, config = make_core(scenario, num_agents)
    return FootballTeamEnv(
        core,
        config,
        num_agents=num_agents,
        checkpoints="checkpoints" in rewards,
        reward_scheme=reward_scheme,
        max_steps=max_steps,
        render_mode=render_mode,
    )


def _choose(options: dict[str, Any], key: str, choices: tuple) -> Any:
    """Takes a setting out of the options; the first choice is the default."""
    value = options.pop(key, choices[0])
    if isinstance(value, str | None) and value in choices:
        return value
    raise _refusal(key, f"`{key}` must be one of {list(choices)}, got {value!r}.")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_refusal = partial(env_refusal, "football")
