"""A robot of the user's own, stepped by the library."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box

from rllib_hetero.envs.mamujoco.joints import order_of_actions
from rllib_hetero.envs.mamujoco.standardized import standardized, standardized_observations
from rllib_hetero.envs.pettingzoo import PettingZooTeamEnv
from rllib_hetero.team import AgentID


class OwnRobotTeamEnv(PettingZooTeamEnv):
    """A MA-MuJoCo environment around a robot that only its maker knows, one at a time.

    The numbers are the library's. Going around its `step` keeps the state, which it would
    throw away and compute anew, and leaves out the observations where every agent sees the state.

    Args:
        env: The library's `MultiAgentMujocoEnv`.
        full_observation: See `MaMuJoCo`.
        standardized: See `MaMuJoCo`.

    Raises:
        TeamError: If the agents do not have every joint exactly once.
    """

    def __init__(self, env: Any, *, full_observation: bool, standardized: bool) -> None:
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
        self._state = np.zeros(space.shape, np.float32)
        self._order = order_of_actions(env)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[AgentID, np.ndarray], dict[AgentID, dict]]:
        """Starts an episode, see `PettingZooTeamEnv.reset`."""
        state, info = self._single.reset(seed=seed, options=options)
        self._state = state.astype(np.float32)
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
        return standardized(self._state) if self._standardized else self._state

    def _observe(self) -> dict[AgentID, np.ndarray]:
        agents = self.possible_agents
        if self._standardized:
            rows = standardized_observations(self._state[None], len(agents))[0]
            return dict(zip(agents, rows, strict=True))
        if self._full_observation:
            return dict.fromkeys(agents, self._state)
        return {a: x.astype(np.float32) for a, x in self.env._get_obs().items()}
