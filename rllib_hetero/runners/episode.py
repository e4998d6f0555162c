"""The episode object that callbacks see on the fast path."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from rllib_hetero.team import AgentID, Team


class TeamEpisode:
    """An ongoing or finished episode, as counters: the fast path keeps no per-step lists.

    It offers the part of RLlib's `MultiAgentEpisode` that callbacks mostly use: `id_`,
    `len(episode)`, `env_t`, `get_return()`, `is_done`, `is_terminated`, `is_truncated`,
    `get_infos()` and `custom_data` (a dict of your own, kept for the episode's life). Use
    `config.env_runners(env_runner_cls=MultiAgentEnvRunner)` where you need the step lists.

    Attributes:
        agent_returns: Agent id to the sum of that agent's rewards so far.
        env_index: Which sub-environment of the runner it runs in.
    """

    def __init__(self, team: Team, env_index: int) -> None:
        self.id_ = uuid.uuid4().hex
        self.env_index = env_index
        self.custom_data: dict[Any, Any] = {}
        self.env_t = 0
        self.is_terminated = False
        self.is_truncated = False
        self._team = team
        self._returns = np.zeros(len(team.agents))
        self._team_return = 0.0
        self._infos: dict = {}

    def __len__(self) -> int:
        return self.env_t

    @property
    def is_done(self) -> bool:
        return self.is_terminated or self.is_truncated

    @property
    def agent_returns(self) -> dict[AgentID, float]:
        return dict(zip(self._team.agents, self._returns.tolist(), strict=True))

    def get_return(self) -> float:
        """The team's return so far, by the environment's reward scheme."""
        return self._team_return

    def get_infos(self) -> dict:
        """The environment's infos of the latest step."""
        return self._infos

    def update(
        self,
        *,
        length: int,
        agent_returns: np.ndarray,
        team_return: float,
        infos: dict,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Sets the counters; the runner calls it just before it calls the callbacks."""
        self.env_t = length
        self._returns = agent_returns
        self._team_return = team_return
        self._infos = infos
        self.is_terminated = terminated
        self.is_truncated = truncated
