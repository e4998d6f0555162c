"""One environment that is batched by nature, as the `MultiAgentEnv` that single episodes need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.errors import TeamError
from rllib_hetero.runners.env_creator import make_env
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.spaces import decoded
from rllib_hetero.spaces.moves import stacked
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID


class SingleTeamEnv(MultiAgentEnv):
    """A `VectorTeamEnv` of one environment, agent by agent: for RLlib's runner, and own loops.

    Args:
        env: Has one environment.

    Raises:
        TeamError: If it has several.
    """

    def __init__(self, env: VectorTeamEnv) -> None:
        super().__init__()
        if env.num_envs != 1:
            raise TeamError(
                f"A batch of {env.num_envs} environments cannot play a single episode: make it "
                'with env_config={..., "num_envs": 1}.'
            )
        self.env = env
        team = env.team
        self.possible_agents: list[AgentID] = list(team.agents)
        self.agents: list[AgentID] = list(team.agents)
        self.action_spaces = dict(team.action_spaces)
        self.observation_spaces = {
            a: space_with_mask(space, env.masks[a].shape[1]) if a in team.masked else space
            for a, space in team.observation_spaces.items()
        }
        self.reward_scheme = team.reward_scheme
        self.absences = team.absences
        self.state_space = team.state_space

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[AgentID, Any], dict[AgentID, dict]]:
        """Starts an episode."""
        self.env.reset([0], [seed])
        self.agents = list(self.possible_agents)
        return observations_of(self.env), {a: {} for a in self.agents}

    def step(
        self, action_dict: Mapping[AgentID, Any]
    ) -> tuple[
        dict[AgentID, Any],
        dict[AgentID, float],
        dict[AgentID, bool],
        dict[AgentID, bool],
        dict[AgentID, dict],
    ]:
        """Steps the agents that act."""
        acted = list(self.agents)
        outcome = self.env.step(as_rows(self.env, action_dict))
        rewards = dict(zip(self.possible_agents, outcome.rewards[0].tolist(), strict=True))
        over = bool(outcome.terminated[0]), bool(outcome.truncated[0])
        self.agents = [
            a for a, acts in zip(self.possible_agents, self.env.active[0], strict=True) if acts
        ]
        dead = {a: a not in self.agents for a in acted}
        terminateds = {a: dead[a] or over[0] for a in acted} | {"__all__": over[0]}
        truncateds = dict.fromkeys(acted, over[1]) | {"__all__": over[1]}
        observations = observations_of(self.env)
        if any(over):
            self.agents = []
        return observations, {a: rewards[a] for a in acted}, terminateds, truncateds, {}

    def state(self) -> Any:
        """The global state; None if there is none."""
        space = self.env.team.state_rows
        if self.env.state is None or space is None:
            return None
        return decoded(space, self.env.state[0])

    def episode_metrics(self) -> dict[str, float]:
        """What the benchmark counted of the episode that has just ended."""
        return {name: float(x[0]) for name, x in self.env.episode_metrics([0]).items()}

    def close(self) -> None:
        """Closes the batch."""
        self.env.close()


def observations_of(
    env: VectorTeamEnv, e: int = 0, agents: Iterable[AgentID] | None = None
) -> dict[AgentID, Any]:
    """What agents of a batch's environment e see, as `TeamPolicies.act` takes it.

    Args:
        env: The batch.
        e: Which of its environments.
        agents: Whose observations; None: of those that act.
    """
    if agents is None:
        agents = [a for a, acts in zip(env.team.agents, env.active[e], strict=True) if acts]
    seen: dict[AgentID, Any] = {}
    for agent in agents:
        row, masks = env.observations[agent][e].copy(), env.masks.get(agent)
        x = decoded(env.team.row_spaces[agent], row)
        seen[agent] = x if masks is None else {OBSERVATIONS: x, ACTION_MASK: masks[e].copy()}
    return seen


def as_rows(env: VectorTeamEnv, actions: Mapping[AgentID, Any]) -> dict[AgentID, Any]:
    """Actions (1, ...) of all agents; zeros of those that do not act, which the batch ignores."""
    return {
        agent: stacked(space, [actions.get(agent)])
        for agent, space in env.team.action_spaces.items()
    }


def make_single_env(env: Any, context: EnvContext) -> MultiAgentEnv:
    """Makes one environment, to be stepped agent by agent.

    Args:
        env: What `config.environment(...)` takes.
        context: Its configuration.
    """
    if isinstance(env, type) and issubclass(env, VectorTeamEnv):
        context = context.copy_with_overrides({**context, "num_envs": 1})
    made = make_env(env, context)
    return SingleTeamEnv(made) if isinstance(made, VectorTeamEnv) else made


def space_with_mask(space: gym.Space, num_choices: int) -> gym.spaces.Dict:
    """The space of an observation that comes with an action mask, as RLlib has it."""
    return gym.spaces.Dict({OBSERVATIONS: space, ACTION_MASK: Box(0, 1, (num_choices,), np.int8)})
