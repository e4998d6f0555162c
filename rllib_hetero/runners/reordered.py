"""A natively batched environment whose agents are in another order than the training's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team


class ReorderedTeamEnv(VectorTeamEnv):
    """Columns of rewards and of `active` in the order of the given team; all else by agent id.

    Environments that list their agents in the order of a set have another one in every process.

    Args:
        env: The environment.
        team: Its team, in the order that is wanted.
    """

    def __init__(self, env: VectorTeamEnv, team: Team) -> None:
        self._env = env
        self.team = env.team.ordered(team.agents)
        self._columns = [env.team.agents.index(a) for a in team.agents]

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        self._env.reset(envs, seeds)

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        outcome = self._env.step(actions)
        return outcome._replace(rewards=outcome.rewards[:, self._columns])

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        return self._env.episode_metrics(envs)

    def close(self) -> None:
        self._env.close()

    @property
    def unwrapped(self) -> VectorTeamEnv:
        return self._env

    # What changes from step to step is asked for anew.

    @property
    def active(self) -> np.ndarray:  # type: ignore[override]
        return self._env.active[:, self._columns]

    @property
    def num_envs(self) -> int:  # type: ignore[override]
        return self._env.num_envs

    @property
    def observations(self) -> dict[AgentID, np.ndarray]:  # type: ignore[override]
        return self._env.observations

    @property
    def state(self) -> np.ndarray | None:  # type: ignore[override]
        return self._env.state

    @property
    def infos(self) -> list[dict]:  # type: ignore[override]
        return self._env.infos

    @property
    def masks(self) -> dict[AgentID, np.ndarray]:  # type: ignore[override]
        return self._env.masks

    @property
    def seeded(self) -> bool:  # type: ignore[override]
        return self._env.seeded

    @property
    def failed_resets(self) -> int:  # type: ignore[override]
        return self._env.failed_resets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)
