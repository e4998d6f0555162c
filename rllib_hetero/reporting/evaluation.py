"""Plays episodes with a checkpoint's policies, and counts what the benchmark counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.rllib.env.env_context import EnvContext

from rllib_hetero.errors import TeamDataError, TeamError
from rllib_hetero.policies import TeamPolicies
from rllib_hetero.runners.vector_env import VectorTeamEnv, make_vector_env
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID, differences


@dataclass
class Episodes:
    """What was counted, one number for each episode.

    Attributes:
        returns: The team's returns.
        lengths: Environment steps.
        metrics: The benchmark's own numbers, such as "win_rate".
    """

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def evaluate(
    policies: TeamPolicies,
    make_env: Callable[[Any], Any],
    env_config: Mapping[str, Any],
    *,
    episodes: int,
    seed: int = 0,
    explore: bool = False,
    max_steps: int = 100_000,
) -> Episodes:
    """Plays whole episodes, one after another. Ray is not needed.

    Args:
        policies: From `load_policies`.
        make_env: The environment's creator, called with `env_config`; may return a
            `VectorTeamEnv`.
        env_config: What the environment is made with.
        episodes: How many.
        seed: The first episode's; each later one has the next.
        explore: Explore as in training instead of acting greedily.
        max_steps: An episode that is longer is an error.

    Raises:
        TeamError: If the environment's team is not the policies', or an episode does not end.
        TeamDataError: If the environment returns NaN or infinity.
    """
    env = make_vector_env(make_env, [EnvContext({**env_config, "num_envs": 1}, worker_index=0)])
    try:
        _check_team(env, policies)
        policies.seed(seed)
        played = Episodes()
        for number in range(episodes):
            _play(env, policies, seed + number, explore, max_steps, played)
        return played
    finally:
        env.close()


def _check_team(env: VectorTeamEnv, policies: TeamPolicies) -> None:
    unlike = differences(policies.layout.team, env.team)
    if unlike:
        raise TeamError(
            "The environment has another team than the checkpoint's policies: "
            f"{'; '.join(unlike)}. Give the environment it was trained on."
        )


def _play(
    env: VectorTeamEnv,
    policies: TeamPolicies,
    seed: int,
    explore: bool,
    max_steps: int,
    played: Episodes,
) -> None:
    """Plays one episode and adds it to what was played."""
    policies.reset()
    env.reset([0], [seed])
    team_return = 0.0
    for step in range(1, max_steps + 1):
        where = f"in step {step} of the episode with seed {seed}"
        _check_finite("observation", env.observations, where)
        active = env.active[0].copy()
        actions = policies.act(_observations(env), explore=explore)
        outcome = env.step(_as_rows(env, actions))
        _check_finite("reward", dict(zip(env.team.agents, outcome.rewards[0], strict=True)), where)
        team_return += float(env.team.team_reward(np.where(active, outcome.rewards[0], 0.0)))
        if outcome.terminated[0] or outcome.truncated[0]:
            played.returns.append(team_return)
            played.lengths.append(step)
            for name, values in env.episode_metrics([0]).items():
                played.metrics[name].append(float(values[0]))
            return
    raise TeamError(f"The episode with seed {seed} did not end within {max_steps:,} steps.")


def _check_finite(what: str, values: Mapping[AgentID, Any], where: str) -> None:
    for agent, x in values.items():
        if not np.isfinite(x).all():
            raise TeamDataError(
                f"The environment returned a NaN or infinite {what} for agent {agent!r}, {where}."
            )


def _observations(env: VectorTeamEnv) -> dict[AgentID, Any]:
    """What the acting agents see, as `TeamPolicies.act` takes it."""
    seen: dict[AgentID, Any] = {}
    for agent, acts in zip(env.team.agents, env.active[0], strict=True):
        if acts:
            x = env.observations[agent][0]
            masked = agent in env.masks
            seen[agent] = {OBSERVATIONS: x, ACTION_MASK: env.masks[agent][0]} if masked else x
    return seen


def _as_rows(env: VectorTeamEnv, actions: Mapping[AgentID, Any]) -> dict[AgentID, np.ndarray]:
    """Actions (1, ...) of all agents; those that do not act are ignored by the environment."""
    rows = {}
    for agent, space in env.team.action_spaces.items():
        action = actions.get(agent)
        shape: Any = space.shape
        rows[agent] = np.zeros((1, *shape), space.dtype)
        if action is not None:
            rows[agent][0] = action
    return rows
