"""A gymnasium environment of several agents, as tuples, as an RLlib `MultiAgentEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Tuple
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.errors import TeamError
from rllib_hetero.team import AgentID, RewardScheme


class TupleTeamEnv(MultiAgentEnv):
    """Wraps a gymnasium environment whose spaces are Tuples with one entry for each agent.

    Level-based foraging, the robotic warehouse and VMAS are of this kind. All agents act in every
    step: `step` takes a list of actions, and returns a list of observations, one of rewards, and
    one flag of each kind for the team.

    Args:
        env: The environment.
        agents: The agents' ids, in its order. None: "agent_0", "agent_1" and so on.
        reward_scheme: "individual" or "shared", see `rllib_hetero.team.Team`.

    Raises:
        TeamError: If its spaces are no Tuples of one length, or `agents` is of another.

    Examples:
        >>> import gymnasium, lbforaging
        >>> env = TupleTeamEnv(gymnasium.make("Foraging-8x8-2p-3f-v3"))
    """

    def __init__(
        self,
        env: gym.Env,
        *,
        agents: Sequence[AgentID] | None = None,
        reward_scheme: RewardScheme = "individual",
    ) -> None:
        super().__init__()
        seen: Any = env.observation_space
        acted: Any = env.action_space
        if not (isinstance(seen, Tuple) and isinstance(acted, Tuple) and len(seen) == len(acted)):
            raise TeamError(
                "TupleTeamEnv(env) takes an environment whose spaces are gymnasium Tuples, one "
                f"entry for each agent; these are {seen} and {acted}."
            )
        names: list[AgentID] = [f"agent_{i}" for i in range(len(seen))]
        if agents is not None:
            names = list(agents)
        if len(names) != len(seen):
            raise TeamError(
                f"TupleTeamEnv(env, agents=...) names {len(names)} agents; the environment has "
                f"{len(seen)}."
            )
        self.env: Any = env
        self.possible_agents: list[AgentID] = names
        self.agents: list[AgentID] = list(names)
        self.observation_spaces: dict[Any, gym.Space] = dict(zip(names, seen, strict=True))
        self.action_spaces: dict[Any, gym.Space] = dict(zip(names, acted, strict=True))
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_space = gym.spaces.Dict(self.action_spaces)
        self.reward_scheme = reward_scheme
        self.render_mode = getattr(env, "render_mode", None)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[AgentID, np.ndarray], dict[AgentID, dict]]:
        """Starts an episode."""
        observations, _ = self.env.reset(seed=seed, options=options)
        return self._by_agent(observations), {a: {} for a in self.agents}

    def step(self, action_dict: dict[AgentID, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Steps all agents.

        Args:
            action_dict: The action of every agent.

        Returns:
            Observations, rewards, terminateds, truncateds and infos by agent. A flag is the
            team's; an end that is both counts as a termination.
        """
        actions = [action_dict[a] for a in self.agents]
        observations, rewards, terminated, truncated, _ = self.env.step(actions)
        flagged = (*self.agents, "__all__")
        return (
            self._by_agent(observations),
            {a: float(r) for a, r in zip(self.agents, rewards, strict=True)},
            dict.fromkeys(flagged, bool(terminated)),
            dict.fromkeys(flagged, bool(truncated) and not terminated),
            {a: {} for a in self.agents},
        )

    def render(self) -> Any:
        """The environment's frame."""
        return self.env.render()

    def close(self) -> None:
        """Closes the wrapped environment."""
        self.env.close()

    def _by_agent(self, observations: Sequence[Any]) -> dict[AgentID, np.ndarray]:
        # Copies: an environment may write into what it has handed out.
        return {
            a: np.array(x, self.observation_spaces[a].dtype)
            for a, x in zip(self.agents, observations, strict=True)
        }
