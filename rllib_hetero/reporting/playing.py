"""Plays one episode at a time, in any environment that can be trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ray.rllib.env.env_context import EnvContext

from rllib_hetero.envs import ENVIRONMENTS, PettingZooTeamEnv
from rllib_hetero.errors import TeamDataError, TeamError
from rllib_hetero.runners.env_creator import is_pettingzoo, make_env
from rllib_hetero.runners.returned import check_is_team_env
from rllib_hetero.runners.single_env import as_rows, observations_of
from rllib_hetero.runners.vector_env import SyncVectorTeamEnv, VectorTeamEnv
from rllib_hetero.team import AgentID
from rllib_hetero.threads import torch_threads

Act = Callable[[Mapping[AgentID, Any]], dict[AgentID, Any]]


class Played(NamedTuple):
    """One episode.

    Attributes:
        team_return: The sum over agents, or a shared reward counted once.
        length: Environment steps.
        ended: Whether it came to its end.
        metrics: The benchmark's own numbers, such as "win_rate"; none where it did not end.
    """

    team_return: float
    length: int
    ended: bool
    metrics: dict[str, float]


def make_one(env: Any, env_config: Mapping[str, Any] | None) -> Any:
    """One environment, as the training makes it.

    The user's function gets the user's `env_config`: only a class that is batched by nature is
    told, by "num_envs", that there is to be one.

    Args:
        env: What `config.environment(...)` takes.
        env_config: Its configuration.
    """
    batched = isinstance(env, type) and issubclass(env, VectorTeamEnv)
    settings = {**(env_config or {}), **({"num_envs": 1} if batched else {})}
    return make_env(env, EnvContext(settings, worker_index=0), names=ENVIRONMENTS)


def as_one_row(env: Any) -> VectorTeamEnv:
    """An environment as `play` takes it: a batch of one.

    Args:
        env: A `MultiAgentEnv`, a PettingZoo parallel environment, or a `VectorTeamEnv` of one.

    Raises:
        TeamError: If it is something else.
    """
    if isinstance(env, VectorTeamEnv):
        if env.num_envs != 1:
            raise TeamError(f"The batch holds {env.num_envs} environments; make one of 1.")
        return env
    if is_pettingzoo(env):
        env = PettingZooTeamEnv(env)
    check_is_team_env(env)
    return SyncVectorTeamEnv(lambda _: env, 1)


def play(
    act: Act,
    env: VectorTeamEnv,
    *,
    seed: int | None,
    max_steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> Played:
    """Plays one episode, in one thread.

    Args:
        act: Observations of the living agents to their actions, such as `policies.act`.
        env: A batch of one.
        seed: Its reset's.
        max_steps: The episode is left after so many steps.
        on_step: Called after the reset and after every step.

    Raises:
        TeamDataError: If the environment returns NaN or infinity.
    """
    with torch_threads(1):
        return _play(act, env, seed, max_steps, on_step)


def _play(
    act: Act,
    env: VectorTeamEnv,
    seed: int | None,
    max_steps: int,
    on_step: Callable[[], None],
) -> Played:
    env.reset([0], [seed])
    on_step()
    team_return = 0.0
    for step in range(1, max_steps + 1):
        where = f"in step {step} of the episode with seed {seed}"
        _check_finite("observation", env.observations, where)
        active = env.active[0].copy()
        outcome = env.step(as_rows(env, act(observations_of(env))))
        on_step()
        _check_finite("reward", dict(zip(env.team.agents, outcome.rewards[0], strict=True)), where)
        counted = active | env.team.absences  # The dead are given nothing, the absent may be.
        team_return += float(env.team.team_reward(np.where(counted, outcome.rewards[0], 0.0)))
        if outcome.terminated[0] or outcome.truncated[0]:
            metrics = {name: float(x[0]) for name, x in env.episode_metrics([0]).items()}
            return Played(team_return, step, True, metrics)
    return Played(team_return, max_steps, False, {})


def _check_finite(what: str, values: Mapping[AgentID, Any], where: str) -> None:
    for agent, x in values.items():
        if not np.isfinite(x).all():
            raise TeamDataError(
                f"The environment returned a NaN or infinite {what} for agent {agent!r}, {where}."
            )
