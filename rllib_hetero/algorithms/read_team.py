"""Reads the team, and who shares a module, from what a config says of the environment."""

from __future__ import annotations

import logging
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_context import EnvContext

from rllib_hetero.envs import ENVIRONMENTS, register_environments
from rllib_hetero.errors import TeamError
from rllib_hetero.runners.env_creator import make_env
from rllib_hetero.runners.returned import check_is_team_env
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.team import AgentID, Team

logger = logging.getLogger(__name__)


def read_team(config: Any) -> tuple[Team, bool]:
    """Makes one environment, reads its team, and closes it.

    Args:
        config: Whose `env` and `env_config` are asked.

    Returns:
        The team, and whether the environment is batched by nature.

    Raises:
        TeamError: If no environment is set, or it has no team that is supported.
    """
    if config.env is None:
        raise TeamError(
            "No environment is set. Use config.environment('mpe', "
            "env_config={'scenario': 'simple_spread'}) or your own."
        )
    # Ray forgets what was registered when it is shut down.
    register_environments()
    context = EnvContext(
        {**config.env_config, "num_envs": 1} if _is_batched(config.env) else config.env_config,
        worker_index=0,
    )
    env = make_env(config.env, context, names=ENVIRONMENTS)
    try:
        if isinstance(env, VectorTeamEnv):
            return env.team, True
        check_is_team_env(env)
        return Team.from_env(env), False
    finally:
        _close(env)


def _is_batched(env: Any) -> bool:
    return isinstance(env, type) and issubclass(env, VectorTeamEnv)


def sharing_from_policies(config: Any, team: Team) -> dict[str, list[AgentID]]:
    """Module names to agents, from RLlib's `policies` and `policy_mapping_fn`.

    Raises:
        TeamError: If the function is missing, raises, or names what is no policy.
    """
    if config.policy_mapping_fn is AlgorithmConfig.DEFAULT_POLICY_MAPPING_FN:
        raise TeamError(
            "`policy_mapping_fn` is not set, and where `parameter_sharing` is None, as it is "
            "beside `policies`, nothing else says who has which module: use "
            "config.multi_agent(policies=..., policy_mapping_fn=...), or "
            "config.multi_agent(parameter_sharing='none') for a module of each agent's own."
        )
    groups: dict[str, list[AgentID]] = {}
    for agent in team.agents:
        try:
            name = config.policy_mapping_fn(agent, None)
        except Exception as error:
            raise TeamError(
                f"`policy_mapping_fn` raised {type(error).__name__} for the agent {agent!r}: "
                f"{error}. It is called once for each agent, without an episode (None): who "
                "has which module stays for the whole run. Mend it with "
                "config.multi_agent(policy_mapping_fn=...)."
            ) from error
        if name not in config.policies:
            raise TeamError(
                f"`policy_mapping_fn` maps the agent {agent!r} to {name!r}, which is not "
                f"among the policies {sorted(config.policies)}. Mend it with "
                "config.multi_agent(policies=..., policy_mapping_fn=...)."
            )
        groups.setdefault(name, []).append(agent)
    return groups


def _close(env: Any) -> None:
    try:
        env.close()
    except Exception as error:
        # PettingZoo's may raise where nothing has been drawn yet.
        logger.warning("Closing the environment %s raised: %s", type(env).__name__, error)
