"""One environment of a batch, seen as a `MultiAgentEnv`: the same checks are then for both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from rllib_hetero.checking.choosing import RandomActions
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.spaces import decoded
from rllib_hetero.spaces.moves import stacked
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID


class RowView:
    """Row 0 of a `VectorTeamEnv`. The other rows, if any, act at random.

    Args:
        env: The batch.
    """

    def __init__(self, env: VectorTeamEnv) -> None:
        self.batch = env
        self._resets = 0

    @property
    def possible_agents(self) -> list[AgentID]:
        """The team's agents."""
        return list(self.batch.team.agents)

    @cached_property
    def _choose(self) -> RandomActions:
        return RandomActions(self.batch.team, 0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        """Resets all rows with the same seed."""
        envs = range(self.batch.num_envs)
        self.batch.reset(list(envs), [seed] * len(envs))
        agents = [a for a, on in zip(self.possible_agents, self.batch.active[0], strict=True) if on]
        return self._observe(agents), {}

    def step(self, action_dict: Mapping[AgentID, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Steps row 0 with these actions."""
        batch = self.batch
        before = batch.active.copy()
        outcome = batch.step(stack([dict(action_dict), *self._others()], batch))
        if outcome.failed[0]:
            raise RuntimeError("Outcome.failed is True: the environment says that its step failed")
        over = bool(outcome.terminated[0]), bool(outcome.truncated[0])
        after = batch.active[0]
        agents = self.possible_agents
        acted = [a for i, a in enumerate(agents) if before[0, i]]
        seen = acted if any(over) else [a for i, a in enumerate(agents) if after[i]]
        died = {
            a: True for i, a in enumerate(agents) if before[0, i] and not after[i] and not over[0]
        }
        rewards = {a: float(outcome.rewards[0, agents.index(a)]) for a in acted}
        rest = np.flatnonzero((outcome.terminated | outcome.truncated)[1:]) + 1
        if rest.size and not any(over):
            self._resets += 1
            batch.reset(rest.tolist(), [self._resets] * rest.size)
        ends = {**died, "__all__": over[0]}, {"__all__": over[1]}
        return self._observe(seen), rewards, *ends, {}

    def state(self) -> Any:
        """The state of row 0."""
        assert self.batch.state is not None and self.batch.team.state_rows is not None
        return decoded(self.batch.team.state_rows, self.batch.state[0].copy())

    def episode_metrics(self) -> dict[str, Any]:
        """The numbers of row 0's episode."""
        counted = self.batch.episode_metrics([0])
        for name, values in counted.items():
            if np.shape(values) != (1,):
                raise ValueError(f"{name!r} of one episode has shape {np.shape(values)}, not (1,)")
        return {name: values[0] for name, values in counted.items()}

    def close(self) -> None:
        """Closes the batch."""
        self.batch.close()

    def _observe(self, agents: list[AgentID]) -> dict[AgentID, Any]:
        # Copies: a batch may overwrite its arrays in place.
        rows = self.batch.team.row_spaces
        seen: dict[AgentID, Any] = {
            a: decoded(rows[a], self.batch.observations[a][0].copy()) for a in agents
        }
        for a in self.batch.team.masked & seen.keys():
            seen[a] = {OBSERVATIONS: seen[a], ACTION_MASK: self.batch.masks[a][0].copy()}
        return seen

    def _others(self) -> list[dict[AgentID, Any]]:
        return [row_actions(self.batch, e, self._choose) for e in range(1, self.batch.num_envs)]


def row_actions(batch: VectorTeamEnv, e: int, choose: RandomActions) -> dict[AgentID, Any]:
    """Random allowed actions of those that act in row e."""
    agents = [a for a, on in zip(batch.team.agents, batch.active[e], strict=True) if on]
    return choose(agents, {a: batch.masks[a][e] for a in batch.team.masked})


def stack(rows: list[dict[AgentID, Any]], batch: VectorTeamEnv) -> dict[AgentID, Any]:
    """Rows' actions as agent id to (E, ...), zeros for those that do not act."""
    spaces = batch.team.action_spaces
    return {a: stacked(spaces[a], [row.get(a) for row in rows]) for a in batch.team.agents}
