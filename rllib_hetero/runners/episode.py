"""The episode object that callbacks see on the fast path."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.runners.history import EpisodeHistory
from rllib_hetero.team import AgentID

Indices = int | list[int] | slice | None
Agents = Collection[AgentID] | AgentID | None


class TeamEpisode:
    """An ongoing or finished episode: counters, and the steps for those who ask.

    It offers the part of RLlib's `MultiAgentEpisode` that callbacks use. `get_observations`,
    `get_actions`, `get_rewards` and `get_infos` take and return what RLlib's do; the steps so far
    are read from the runner's arrays at the first of these calls. `rllib_episode()` is all of it.

    Two things are the fast path's own: `get_return()` is the team's return by the environment's
    reward scheme (RLlib's is the sum over agents, also of a shared reward), and what a dying agent
    saw last is not known (RLlib's rule for that: the observation before stands in its place).

    Args:
        layout: Agents and modules.
        env_index: Which of the runner's environments it runs in.
        history: Where its steps are.

    Attributes:
        id_: Its own.
        env_index: As above.
        env_t: Steps so far.
        custom_data: A dict of yours, kept for the episode's life.
        is_terminated: Whether it has ended.
        is_truncated: Whether it was cut.
        history: As above; the runner's own.
    """

    def __init__(self, layout: Layout, env_index: int, history: EpisodeHistory) -> None:
        self.id_ = history.id_
        self.env_index = env_index
        self.custom_data: dict[Any, Any] = {}
        self.env_t = 0
        self.is_terminated = False
        self.is_truncated = False
        self.history = history
        self._layout = layout
        self._returns = np.zeros(len(layout.team.agents))
        self._team_return = 0.0
        self._temporary: dict[Any, list] = {}

    def __len__(self) -> int:
        return self.env_t

    @property
    def is_done(self) -> bool:
        return self.is_terminated or self.is_truncated

    @property
    def agent_ids(self) -> set[AgentID]:
        """The team's agents."""
        return set(self._layout.team.agents)

    @property
    def agent_returns(self) -> dict[AgentID, float]:
        """Agent id to the sum of that agent's rewards so far."""
        return dict(zip(self._layout.team.agents, self._returns.tolist(), strict=True))

    def module_for(self, agent_id: AgentID) -> ModuleID:
        """The module that acts for an agent."""
        return self._layout.module_of[agent_id]

    def env_steps(self) -> int:
        """Environment steps so far."""
        return self.env_t

    def get_return(self, include_hanging_rewards: bool = True) -> float:
        """The team's return so far, by the environment's reward scheme.

        Args:
            include_hanging_rewards: For RLlib's signature. Every reward counts as soon as it is
                given.
        """
        return self._team_return

    def get_observations(
        self, indices: Indices = None, agent_ids: Agents = None, **options: Any
    ) -> Any:
        """Observations by agent, without the index and the context that modules are given.

        Args:
            indices: Environment steps: an int (-1: the latest), a list, a slice; None: all.
            agent_ids: Of whom; None: of all.
            options: `env_steps`, `neg_index_as_lookback`, `fill`, `one_hot_discrete` and
                `return_list` of RLlib's `MultiAgentEpisode`.

        Returns:
            Agent id to an observation, or to a list of them. At one step, only of those who saw
            something then.
        """
        return self.rllib_episode().get_observations(indices, agent_ids, **options)

    def get_actions(self, indices: Indices = None, agent_ids: Agents = None, **options: Any) -> Any:
        """Actions by agent, as the policies drew them: before clipping. See `get_observations`."""
        return self.rllib_episode().get_actions(indices, agent_ids, **options)

    def get_rewards(self, indices: Indices = None, agent_ids: Agents = None, **options: Any) -> Any:
        """Rewards by agent, of those that acted. See `get_observations`."""
        return self.rllib_episode().get_rewards(indices, agent_ids, **options)

    def get_infos(self, indices: Indices = None, agent_ids: Agents = None, **options: Any) -> Any:
        """The environment's infos by agent. See `get_observations`."""
        return self.rllib_episode().get_infos(indices, agent_ids, **options)

    def rllib_episode(self) -> MultiAgentEpisode:
        """RLlib's own episode object of all steps so far. It goes on growing with this one."""
        return self.history.episode()

    def add_temporary_timestep_data(self, key: Any, data: Any) -> None:
        """Appends to a list that lives as long as the episode.

        RLlib took this call out in favour of `custom_data`, which does here, too; it is for
        callbacks that were written before.

        Args:
            key: The list's name.
            data: What to append.
        """
        self._temporary.setdefault(key, []).append(data)

    def get_temporary_timestep_data(self, key: Any) -> list[Any]:
        """What was added under a key, in order.

        Raises:
            KeyError: If nothing was.
        """
        return self._temporary[key]

    def update(
        self,
        *,
        length: int,
        agent_returns: np.ndarray,
        team_return: float,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Sets the counters; the runner calls it just before it calls the callbacks."""
        self.env_t = length
        self._returns = agent_returns
        self._team_return = team_return
        self.is_terminated = terminated
        self.is_truncated = truncated
