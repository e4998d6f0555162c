"""Who has which joints, and robots of many segments."""

from __future__ import annotations

import os
import re
import tempfile
from functools import partial
from typing import Any

import numpy as np

from rllib_hetero.envs.refusal import refusal as env_refusal
from rllib_hetero.errors import TeamError

SCENARIOS: dict[str, tuple[str, ...]] = {
    "Ant": ("2x4", "2x4d", "4x2"),
    "CoupledHalfCheetah": ("1p1",),
    "HalfCheetah": ("2x3", "6x1"),
    "Hopper": ("3x1",),
    "Humanoid": ("9|8",),
    "HumanoidStandup": ("9|8",),
    "Pusher": ("3p",),
    "Reacher": ("2x1",),
    "Swimmer": ("2x1",),
    "Walker2d": ("2x3",),
}
"""Scenario to the values of `agent_conf` that the library itself has."""

SEGMENTED = {"ManySegmentAnt": "Ant-v5", "ManySegmentSwimmer": "Swimmer-v5"}
"""Scenarios whose robot is made to measure: N agents of M segments, any "NxM"."""

# The order in which HARL's papers walk along these robots. It decides who gets which joints when
# they are cut into "3x2". All others are cut in the order of the actions.
_JOINT_ORDER = {
    "HalfCheetah": ("bfoot", "bshin", "bthigh", "ffoot", "fshin", "fthigh"),
    "Walker2d": (
        *("foot_joint", "leg_joint", "thigh_joint"),
        *("foot_left_joint", "leg_left_joint", "thigh_left_joint"),
    ),
}
refusal = partial(env_refusal, "mamujoco")


def order_of_actions(env: Any) -> np.ndarray:
    """Where each of the robot's actions is among those of all agents, one after another.

    Args:
        env: The library's `MultiAgentMujocoEnv`.

    Raises:
        TeamError: If the agents do not have every joint exactly once.
    """
    ids = [joint.act_ids for part in env.agent_action_partitions for joint in part]
    if sorted(ids) != list(range(env.single_agent_env.action_space.shape[0])):
        raise TeamError(
            f"`agent_factorization` gives the agents the actions {ids}; every action of the "
            "robot is needed exactly once."
        )
    return np.argsort(ids)


def factorization(scenario: str, conf: Any) -> dict[str, Any] | None:
    """Who has which joints, in the library's format; None where it knows the label itself.

    "NxM" is cut here. Pusher's joints are named apart.

    Raises:
        TeamError: If the label does not fit the robot. The message lists those that do.
    """
    from gymnasium_robotics.envs.multiagent_mujoco.obsk import get_parts_and_edges

    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(conf))
    if scenario in SEGMENTED:
        if match:
            return None
        why = f"Unknown agent_conf {conf!r} for {scenario}. It is 'NxM': N agents of M segments "
        raise refusal("agent_conf", why + "each, '2x3' for example.")
    if conf in SCENARIOS[scenario] and scenario != "Pusher":
        return None
    # Not all robots can be asked for their joints without naming a label.
    parts, edges, globals_ = get_parts_and_edges(scenario, SCENARIOS[scenario][0])
    joints = sorted((joint for part in parts for joint in part), key=lambda j: j.act_ids)
    if scenario == "Pusher":
        _name_apart(joints)
    if conf in SCENARIOS[scenario]:
        return {"partition": parts, "edges": edges, "globals": globals_}
    if scenario in _JOINT_ORDER:
        joints.sort(key=lambda j: _JOINT_ORDER[scenario].index(j.label))
    n = len(joints)
    if match is None or int(match[1]) * int(match[2]) != n:
        cuts = [f"{k}x{n // k}" for k in range(2, n + 1) if n % k == 0]
        valid = list(dict.fromkeys([*SCENARIOS[scenario], *cuts]))
        raise refusal(
            "agent_conf",
            f"Unknown agent_conf {conf!r} for {scenario}, which has {n} joints. Choose one of "
            f"{valid}.",
        )
    size = int(match[2])
    return {
        "partition": [tuple(joints[i : i + size]) for i in range(0, n, size)],
        "edges": edges,
        "globals": globals_,
    }


def _name_apart(joints: list[Any]) -> None:
    """Gives joints of the same name different ones.

    The library sorts what an agent sees by the joints' names. Those of the same name are left in
    the order of their addresses in memory: another one in every process.
    """
    names = [joint.label for joint in joints]
    for joint in joints:
        if names.count(joint.label) > 1:
            joint.label = f"{joint.label}_{joint.act_ids}"


def segmented_robot(scenario: str, conf: str, options: dict[str, Any]) -> Any:
    """Makes the single-agent environment of a robot of N * M segments.

    The library writes the robot's description into its own folder under a fixed name, and
    deletes it: processes that start together break each other's. Here each has its own file.
    Takes what gymnasium is to be given out of `options`.
    """
    import gymnasium
    from gymnasium_robotics.envs.multiagent_mujoco import many_segment_ant, many_segment_swimmer

    made_by = {"ManySegmentAnt": many_segment_ant, "ManySegmentSwimmer": many_segment_swimmer}
    agents, segments = map(int, conf.split("x"))
    ours = ("agent_factorization", "local_categories", "global_categories")
    keywords = {key: options.pop(key) for key in list(options) if key not in ours}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "robot.xml")
        made_by[scenario].gen_asset(n_segs=agents * segments, asset_path=path)
        return gymnasium.make(SEGMENTED[scenario], xml_file=path, **keywords)
