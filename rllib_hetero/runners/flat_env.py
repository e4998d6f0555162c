"""An environment of any kinds of spaces, with flat ones: for what knows of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.functional import num_choices
from rllib_hetero.runners.rows import row_of, state_row
from rllib_hetero.spaces import Rows
from rllib_hetero.spaces.moves import pick
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID, Team


class FlatTeamEnv(MultiAgentEnv):
    """Observations and states as rows, actions as policies draw them.

    Args:
        env: The environment.
        team: Its team.
    """

    def __init__(self, env: MultiAgentEnv, team: Team) -> None:
        self.env = env
        super().__init__()
        self.team = team
        self.possible_agents = list(team.agents)
        self.observation_spaces = {a: self._observation_space(a) for a in team.agents}
        self.action_spaces = {a: m.flat for a, m in team.moves.items()}
        self.reward_scheme = team.reward_scheme
        self.state_space = team.state_rows
        self.render_mode = getattr(env, "render_mode", None)

    @property
    def agents(self) -> list[AgentID]:  # type: ignore[override]
        return self.env.agents

    @agents.setter
    def agents(self, agents: list[AgentID]) -> None:
        """RLlib's base class sets none; the environment's are the ones that count."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        """Starts an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._rows(observations), infos

    def step(self, action_dict: Mapping[AgentID, Any]) -> tuple:
        """Steps with flat actions."""
        moves = self.team.moves
        actions = {
            a: u if moves[a].plain else pick(moves[a].decode(np.asarray(u)[None]), 0)
            for a, u in action_dict.items()
        }
        observations, *rest = self.env.step(actions)
        return self._rows(observations), *rest

    def state(self) -> np.ndarray:
        """(s,) the global state, as a row."""
        return state_row(self.team, self.env.state())  # type: ignore[attr-defined]

    def render(self) -> Any:
        """The environment's frame."""
        return self.env.render()

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def _observation_space(self, agent: AgentID) -> gym.Space:
        rows = self.team.row_spaces[agent]
        if agent not in self.team.masked:
            return rows
        size = num_choices(self.team.moves[agent].flat)
        mask = Box(0, 1, (size,), np.int8)
        return gym.spaces.Dict({OBSERVATIONS: rows, ACTION_MASK: mask})

    def _rows(self, observations: dict[AgentID, Any]) -> dict[AgentID, Any]:
        return {a: self._row(a, x) for a, x in observations.items()}

    def _row(self, agent: AgentID, x: Any) -> Any:
        space = self.team.row_spaces.get(agent)
        if not isinstance(space, Rows):
            return x
        if agent in self.team.masked:
            return {**x, OBSERVATIONS: row_of(agent, space, x[OBSERVATIONS])}
        return row_of(agent, space, x)


def flattened(env: MultiAgentEnv) -> MultiAgentEnv:
    """The environment, or a `FlatTeamEnv` of it if some of its spaces are not flat."""
    team = Team.from_env(env)
    spaces = [*team.row_spaces.values(), team.state_rows]
    flat = all(m.plain for m in team.moves.values())
    if flat and not any(isinstance(space, Rows) for space in spaces):
        return env
    return FlatTeamEnv(env, team)
