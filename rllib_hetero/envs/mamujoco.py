"""Multi-agent MuJoCo: one robot, its joints divided among agents (`gymnasium-robotics`)."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from rllib_hetero.envs.pettingzoo import PettingZooTeamEnv
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import AgentID

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

PRESETS = ("harl", "bppo")
"""What agents observe in the codes of these papers' authors."""

# The order in which HARL's papers walk along these robots. It decides who gets which joints when
# they are cut into "3x2". All others are cut in the order of the actions.
_JOINT_ORDER = {
    "HalfCheetah": ("bfoot", "bshin", "bthigh", "ffoot", "fshin", "fthigh"),
    "Walker2d": (
        *("foot_joint", "leg_joint", "thigh_joint"),
        *("foot_left_joint", "leg_left_joint", "thigh_left_joint"),
    ),
}
_MEND = 'Mend it with config.environment("mamujoco", env_config={{"{}": ...}}).'


class MaMuJoCoTeamEnv(PettingZooTeamEnv):
    """A MA-MuJoCo environment, stepped through the single-agent environment it holds.

    The numbers are the library's. Going around its `step` keeps the state, which it would
    throw away and compute anew, and leaves out the observations where every agent sees the state.

    Args:
        env: The library's `MultiAgentMujocoEnv`.
        full_observation: Whether every agent observes the whole state instead of its part.
        standardized: Whether agents observe the whole state with a one-hot of themselves, and this
            and the critic's state have mean 0 and deviation 1 *over their own numbers*, in every
            step. So do the HARL authors.

    Raises:
        TeamError: If the agents do not have every joint exactly once.
    """

    def __init__(self, env: Any, *, full_observation: bool, standardized: bool = False) -> None:
        self._single = env.single_agent_env
        space = self._single.observation_space
        agents = env.possible_agents
        if full_observation:
            env.observation_spaces = dict.fromkeys(agents, space)
        if standardized:
            size = space.shape[0] + len(agents)
            env.observation_spaces = dict.fromkeys(agents, Box(-np.inf, np.inf, (size,)))
        super().__init__(env, reward_scheme="shared", state_space=space)
        self.render_mode = self._single.render_mode
        self._full_observation = full_observation
        self._standardized = standardized
        self._parts: dict[AgentID, np.ndarray] | None = None
        self._parts_known = False
        self._state = np.zeros(space.shape, np.float32)
        ids = [joint.act_ids for part in env.agent_action_partitions for joint in part]
        if sorted(ids) != list(range(self._single.action_space.shape[0])):
            raise TeamError(
                f"`agent_factorization` gives the agents the actions {ids}; every action of the "
                "robot is needed exactly once."
            )
        # The agents' actions, concatenated, in the robot's order.
        self._order = np.argsort(ids)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[AgentID, np.ndarray], dict[AgentID, dict]]:
        """Starts an episode, see `PettingZooTeamEnv.reset`."""
        state, info = self._single.reset(seed=seed, options=options)
        self._state = state.astype(np.float32)
        if not self._full_observation and not self._parts_known:
            self._parts, self._parts_known = self._find_parts(state), True
        self.agents = list(self.possible_agents)
        return self._observe(), dict.fromkeys(self.agents, info)

    def step(
        self, action_dict: dict[AgentID, np.ndarray]
    ) -> tuple[
        dict[AgentID, np.ndarray],
        dict[AgentID, float],
        dict[AgentID, bool],
        dict[AgentID, bool],
        dict[AgentID, dict],
    ]:
        """Steps the robot, see `PettingZooTeamEnv.step`. All agents start and end together."""
        agents = self.possible_agents
        # float64, as the control cost is computed from it.
        action = np.concatenate([action_dict[a] for a in agents], dtype=np.float64)[self._order]
        state, reward, terminated, truncated, info = self._single.step(action)
        self._state = state.astype(np.float32)
        if terminated or truncated:
            self.agents = []
        return (
            self._observe(),
            dict.fromkeys(agents, reward),
            {**dict.fromkeys(agents, terminated), "__all__": terminated},
            {**dict.fromkeys(agents, truncated), "__all__": truncated and not terminated},
            dict.fromkeys(agents, info),
        )

    def state(self) -> np.ndarray:
        """The robot's observation (s,) float32: what a single agent would see."""
        return _standardize(self._state) if self._standardized else self._state

    def _observe(self) -> dict[AgentID, np.ndarray]:
        if self._standardized:
            n = len(self.possible_agents)
            states = np.broadcast_to(self._state, (n, self._state.size))
            rows = _standardize(np.concatenate([states, np.eye(n, dtype=np.float32)], axis=1))
            return dict(zip(self.possible_agents, rows, strict=True))
        if self._full_observation:
            return dict.fromkeys(self.possible_agents, self._state)
        if self._parts is not None:
            return {a: self._state[part] for a, part in self._parts.items()}
        return {a: x.astype(np.float32) for a, x in self.env._get_obs().items()}

    def _find_parts(self, state: np.ndarray) -> dict[AgentID, np.ndarray] | None:
        """Which numbers of the state each agent observes; None where it is not a selection.

        The library assembles every observation from the joints, number by number, which costs
        as much as the physics of a small robot. It also knows each agent's place in the state;
        for a few robots (ManySegmentAnt, CoupledHalfCheetah) that knowledge is wrong, so it is
        held against the assembled observations once.
        """
        parts = self.env.observation_factorization
        if parts is None:
            return None
        parts = {a: np.asarray(part, np.int64) for a, part in parts.items()}
        same = all(
            part.size == x.size and np.array_equal(state[part], x)
            for (a, x) in self.env._get_obs().items()
            for part in [parts[a]]
        )
        return parts if same else None


def make_mamujoco(env_config: Mapping[str, Any]) -> PettingZooTeamEnv:
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
                `MaMuJoCoTeamEnv`). "bppo": `agent_obsk` 0, but None for Ant. Returns under
                different rules of observation cannot be compared.
            The rest goes to gymnasium-robotics' `mamujoco_v1.parallel_env` and from there to
            the gymnasium environment (render_mode, max_episode_steps, ...).

    Raises:
        MissingExtraError: If `gymnasium-robotics` or `mujoco` is not installed.
        TeamError: For an unknown scenario, agent_conf, agent_obsk or keyword.
    """
    options = dict(env_config)
    options.pop("num_envs", None)  # meant for environments that are batched by nature
    scenario = options.pop("scenario", None)
    conf = options.pop("agent_conf", None)
    preset = options.pop("preset", None)
    if preset is not None and (preset not in PRESETS or "agent_obsk" in options):
        raise TeamError(
            f"`preset` must be one of {list(PRESETS)}, without `agent_obsk`, which it decides; got "
            f"{preset!r}. " + _MEND.format("preset")
        )
    hops = options.pop("agent_obsk", 0 if preset == "bppo" and scenario != "Ant" else None)
    if scenario not in SCENARIOS and scenario not in SEGMENTED:
        raise TeamError(
            f"Unknown MA-MuJoCo scenario {scenario!r}. Choose one of {[*SCENARIOS, *SEGMENTED]}. "
            + _MEND.format("scenario")
        )
    if hops is not None and (not isinstance(hops, int) or isinstance(hops, bool) or hops < 0):
        raise TeamError(
            f"`agent_obsk` must be None or an int of at least 0, got {hops!r}. "
            + _MEND.format("agent_obsk")
        )
    try:
        import mujoco  # noqa: F401  gymnasium-robotics is of no use without it
        from gymnasium_robotics import mamujoco_v1
    except ImportError as error:
        raise MissingExtraError("gymnasium-robotics and mujoco", extra="mamujoco") from error

    if "agent_factorization" not in options:
        options["agent_factorization"] = _factorization(scenario, conf)
    try:
        if scenario in SEGMENTED:
            options["gym_env"] = _segmented_robot(scenario, conf, options)
        # None would make the library merge all agents into one.
        env = mamujoco_v1.parallel_env(scenario, conf, agent_obsk=hops or 0, **options)
    except TypeError as error:  # gymnasium's message names the keyword
        raise TeamError(
            f"MA-MuJoCo refuses the env_config {dict(env_config)}: {error}. Mend it with "
            'config.environment("mamujoco", env_config={...}).'
        ) from error
    return MaMuJoCoTeamEnv(env, full_observation=hops is None, standardized=preset == "harl")


def _standardize(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def _factorization(scenario: str, conf: Any) -> dict[str, Any] | None:
    """Cuts the joints into "NxM"; None where the library knows the label itself.

    Raises:
        TeamError: If the label does not fit the robot. The message lists those that do.
    """
    from gymnasium_robotics.envs.multiagent_mujoco.obsk import get_parts_and_edges

    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(conf))
    if scenario in SEGMENTED:
        if match:
            return None
        raise TeamError(
            f"Unknown agent_conf {conf!r} for {scenario}. It is 'NxM': N agents of M segments "
            "each, '2x3' for example. " + _MEND.format("agent_conf")
        )
    if conf in SCENARIOS[scenario]:
        return None
    # Not all robots can be asked for their joints without naming a label.
    parts, edges, globals_ = get_parts_and_edges(scenario, SCENARIOS[scenario][0])
    joints = sorted((joint for part in parts for joint in part), key=lambda j: j.act_ids)
    if scenario in _JOINT_ORDER:
        joints.sort(key=lambda j: _JOINT_ORDER[scenario].index(j.label))
    n = len(joints)
    if match is None or int(match[1]) * int(match[2]) != n:
        cuts = [f"{k}x{n // k}" for k in range(2, n + 1) if n % k == 0]
        valid = list(dict.fromkeys([*SCENARIOS[scenario], *cuts]))
        raise TeamError(
            f"Unknown agent_conf {conf!r} for {scenario}, which has {n} joints. Choose one of "
            f"{valid}. " + _MEND.format("agent_conf")
        )
    size = int(match[2])
    return {
        "partition": [tuple(joints[i : i + size]) for i in range(0, n, size)],
        "edges": edges,
        "globals": globals_,
    }


def _segmented_robot(scenario: str, conf: str, options: dict[str, Any]) -> Any:
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
