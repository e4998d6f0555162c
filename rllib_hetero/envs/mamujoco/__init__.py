"""Multi-agent MuJoCo: one robot, its joints divided among agents (`gymnasium-robotics`).

All robots of a runner are stepped as one: `mujoco` moves them, one after another, and everything
around that is array operations over E, with the numbers of the library from the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_hetero.envs.mamujoco.joints import (
    SCENARIOS,
    SEGMENTED,
    factorization,
    refusal,
    segmented_robot,
)
from rllib_hetero.errors import MissingExtraError, TeamError

if TYPE_CHECKING:
    from rllib_hetero.envs.mamujoco.game import MaMuJoCo
    from rllib_hetero.envs.mamujoco.one_by_one import OwnRobotTeamEnv

PRESETS = ("harl", "bppo")
"""What agents observe in the codes of these papers' authors."""


def make_mamujoco(env_config: Mapping[str, Any]) -> MaMuJoCo | OwnRobotTeamEnv:
    """Makes a MA-MuJoCo team.

    Episodes are truncated after the robot's own number of steps, mostly 1000. All agents are
    given the same reward, counted once. The global state is what a single agent
    would observe.

    Args:
        env_config:
            "scenario": a key of `SCENARIOS` or `SEGMENTED`.
            "agent_conf": how its joints are divided, one of the labels in `SCENARIOS`, or "NxM",
                N agents of M joints each, where N * M is the robot's number of joints.
            "agent_obsk": None (default): every agent observes the whole state. An int k: every
                agent observes its own joints and those at most k hops away.
            "preset": in place of "agent_obsk", what agents observe in the authors' codes. "harl":
                the whole state and a one-hot of the agent, standardized over these numbers (see
                `MaMuJoCo`). "bppo": `agent_obsk` 0, but None for Ant. Returns under
                different rules of observation cannot be compared.
            "num_envs": E, set by the library.
            The rest goes to gymnasium-robotics' `mamujoco_v1.parallel_env` and from there to
            the gymnasium environment (render_mode, max_episode_steps, ...). A robot given as
            "gym_env" is stepped by the library, one environment after another.

    Raises:
        MissingExtraError: If `gymnasium-robotics` or `mujoco` is not installed.
        TeamError: For an unknown scenario, agent_conf, agent_obsk or keyword.
    """
    options = dict(env_config)
    num_envs = options.pop("num_envs", 1)
    scenario = options.pop("scenario", None)
    conf = options.pop("agent_conf", None)
    preset = options.pop("preset", None)
    if preset is not None and (preset not in PRESETS or "agent_obsk" in options):
        raise refusal(
            "preset",
            f"`preset` must be one of {list(PRESETS)}, without `agent_obsk`, which it decides; got "
            f"{preset!r}.",
        )
    hops = options.pop("agent_obsk", 0 if preset == "bppo" and scenario != "Ant" else None)
    if scenario not in SCENARIOS and scenario not in SEGMENTED:
        raise refusal(
            "scenario",
            f"Unknown MA-MuJoCo scenario {scenario!r}. Choose one of {[*SCENARIOS, *SEGMENTED]}.",
        )
    if hops is not None and (not isinstance(hops, int) or isinstance(hops, bool) or hops < 0):
        why = f"`agent_obsk` must be None or an int of at least 0, got {hops!r}."
        raise refusal("agent_obsk", why)
    try:
        import mujoco  # noqa: F401  gymnasium-robotics is of no use without it
        from gymnasium_robotics import mamujoco_v1
    except ImportError as error:
        raise MissingExtraError("gymnasium-robotics and mujoco", extra="mamujoco") from error

    if "agent_factorization" not in options:
        options["agent_factorization"] = factorization(scenario, conf)
    own_robot = options.get("gym_env") is not None
    try:
        if scenario in SEGMENTED:
            options["gym_env"] = segmented_robot(scenario, conf, options)
        # None would make the library merge all agents into one.
        env = mamujoco_v1.parallel_env(scenario, conf, agent_obsk=hops or 0, **options)
    except TypeError as error:  # gymnasium's message names the keyword
        raise TeamError(
            f"MA-MuJoCo refuses the env_config {dict(env_config)}: {error}. Mend it with "
            'config.environment("mamujoco", env_config={...}).'
        ) from error
    seen: Any = {"full_observation": hops is None, "standardized": preset == "harl"}
    if own_robot:
        from rllib_hetero.envs.mamujoco.one_by_one import OwnRobotTeamEnv

        return OwnRobotTeamEnv(env, **seen)
    # Here, as it imports mujoco.
    from rllib_hetero.envs.mamujoco.game import MaMuJoCo

    return MaMuJoCo(env, scenario, **seen, num_envs=num_envs)


__all__ = ["PRESETS", "SCENARIOS", "SEGMENTED", "make_mamujoco"]
