"""E robots as one vector environment, each with its joints divided among the same agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Wrapper
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit

from rllib_hetero.envs.mamujoco.joints import order_of_actions
from rllib_hetero.envs.mamujoco.physics import Robots
from rllib_hetero.envs.mamujoco.rewards import SCORES
from rllib_hetero.envs.mamujoco.sight import Sight
from rllib_hetero.envs.mamujoco.standardized import standardized, standardized_observations
from rllib_hetero.envs.refusal import refusal
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team


class MaMuJoCo(VectorTeamEnv):
    """E robots of a MA-MuJoCo scenario: the library's numbers, step by step, from the same seeds.

    Args:
        env: The library's `MultiAgentMujocoEnv`, which says what the robot is, who has which
            joints and what is seen of it. It is not stepped.
        scenario: Its name.
        full_observation: Whether every agent observes the whole state instead of its part.
        standardized: Whether agents observe the whole state with a one-hot of themselves, and this
            and the critic's state have mean 0 and deviation 1 *over their own numbers*, in every
            step. So do the HARL authors.
        num_envs: E.

    Raises:
        TeamError: If the agents do not have every joint exactly once.
    """

    def __init__(
        self,
        env: Any,
        scenario: str,
        *,
        full_observation: bool,
        standardized: bool,
        num_envs: int,
    ) -> None:
        robot = env.single_agent_env.unwrapped
        agents = tuple(env.possible_agents)
        self._order = order_of_actions(env)
        self._limit = _time_limit(env.single_agent_env)
        self._env = env
        self._standardized = standardized
        # The state's columns, and those of the agents that see a part of it.
        parts = () if full_observation or standardized else range(len(agents))
        readers = [robot._get_obs, *(lambda i=i: env._get_obs_agent(i) for i in parts)]
        self._sight = Sight(robot, scenario, readers)
        self._score = SCORES[scenario](robot)
        fields = list(dict.fromkeys([*self._sight.fields, *self._score.fields]))
        # What is no selection is read by the library's own code, which may want all there is.
        contacts = "cfrc_ext" in fields or any(i is None for i in self._sight.indices)
        self._robots = Robots(robot, num_envs, fields, contacts=contacts)

        size = robot.observation_space.shape[0]
        self._state = np.zeros((num_envs, size), np.float32)
        self.state = self._state
        sizes = {a: env.observation_spaces[a].shape[0] for a in agents}
        if full_observation or standardized:
            sizes = dict.fromkeys(agents, size + len(agents) * standardized)
        self.observations = {a: np.zeros((num_envs, d), np.float32) for a, d in sizes.items()}
        if full_observation and not standardized:
            self.observations = dict.fromkeys(agents, self._state)
        self._targets = list(
            zip(
                (self._state, *(self.observations[agents[i]] for i in parts)),
                self._sight.indices,
                readers,
                strict=True,
            )
        )
        self.num_envs = num_envs
        self.team = Team(
            agents=agents,
            observation_spaces={a: _unbounded(d) for a, d in sizes.items()},
            action_spaces={a: env.action_spaces[a] for a in agents},
            state_space=_unbounded(size),
            reward_scheme="shared",
        )
        self.active = np.ones((num_envs, len(agents)), bool)
        self._steps = np.zeros(num_envs, np.int64)
        # gymnasium's infos of episodes that have just begun, by environment.
        self._begun: dict[int, dict[str, Any]] = {}

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        envs = list(envs)
        for e, seed in zip(envs, seeds, strict=True):
            self._begun[e] = self._robots.reset(e, seed)
        self._steps[envs] = 0
        self._observe(envs)

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        # float64, as the control cost is computed from it.
        mine = [actions[a] for a in self.team.agents]
        joint = np.concatenate(mine, axis=1, dtype=np.float64).take(self._order, axis=1)
        before = self._score.before(self._robots)
        self._robots.step(joint)
        self._score.after(before, self._robots, joint)
        self._begun.clear()
        self._steps += 1
        self._observe(slice(None))
        first = self._robots.robots[0]
        if first.render_mode == "human":
            first.render()
        terminated = self._score.ends(self._robots)
        rewards = self._score.reward.astype(np.float32)
        return Outcome(
            np.repeat(rewards[:, None], len(self.team.agents), axis=1),
            terminated,
            truncated=(self._steps == self._limit) & ~terminated,
            failed=np.zeros(self.num_envs, bool),
        )

    @property
    def infos(self) -> list[dict]:  # type: ignore[override]
        """What gymnasium tells of each robot, for every agent. Made when it is asked for."""
        terms = self._score.terms | self._score.places(self._robots)
        return [
            dict.fromkeys(
                self.team.agents,
                self._begun[e] if e in self._begun else {k: x[e] for k, x in terms.items()},
            )
            for e in range(self.num_envs)
        ]

    def render(self) -> np.ndarray:
        """Robot 0 as gymnasium draws it, (480, 480, 3) uint8 by default.

        Raises:
            TeamError: If the environment was made without a render mode.
        """
        robot = self._robots.robots[0]
        if robot.render_mode is None:
            why = "The environment was made without `render_mode`, so it has no pictures."
            raise refusal("mamujoco", "render_mode", why, '"rgb_array"')
        return robot.render()

    def close(self) -> None:
        self._env.close()

    def _observe(self, envs: list[int] | slice) -> None:
        """Writes what is seen of these robots."""
        fields = self._robots.fields
        seen = self._sight.look({f: x[envs] for f, x in fields.items()})
        for rows, columns, reader in self._targets:
            rows[envs] = self._read(reader, envs) if columns is None else seen.take(columns, axis=1)
        if not self._standardized:
            return
        state = self._state[envs]
        observed = standardized_observations(state, len(self.team.agents))
        for i, rows in enumerate(self.observations.values()):
            rows[envs] = observed[:, i]
        self._state[envs] = standardized(state)

    def _read(self, reader: Any, envs: list[int] | slice) -> list[np.ndarray]:
        """What the library reads in the physics of these robots, one after another."""
        robot = self._robots.robots[0]
        own = robot.data
        read = []
        try:
            for robot.data in np.array(self._robots.data, object)[envs]:
                read.append(reader())
        finally:
            robot.data = own
        return read


def _time_limit(env: Any) -> int | None:
    """Steps after which an episode is truncated; None if it never is."""
    while isinstance(env, Wrapper):
        if isinstance(env, TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None


def _unbounded(size: int) -> Box:
    return Box(-np.inf, np.inf, (size,), np.float32)
