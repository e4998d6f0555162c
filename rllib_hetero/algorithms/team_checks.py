"""Whether an algorithm can be used with the team that its config has read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from gymnasium.spaces import Box

from rllib_hetero.spaces import is_mixed
from rllib_hetero.team import AgentID, Team

logger = logging.getLogger(__name__)

WIDE = 3.0
"""From which bound of an action on a Gaussian of deviation 1 hardly reaches it."""


def check_kinds(config: Any) -> None:
    """Raises ValueError unless observations are of kinds that the algorithm takes."""
    team = config.layout.team
    if team.pictured and not config.capabilities.pictures:
        raise ValueError(
            f"{config.algo_class.__name__} has no networks for pictures, which are seen by "
            f"{', '.join(team.pictured)}. Use an algorithm that has (HAPPO, MAPPO, HASAC, "
            "QMIX), or wrap the environment so that it flattens them "
            "(supersuit.flatten_v0(supersuit.dtype_v0(env, 'float32')))."
        )
    if team.pictured and config.model_config.get("input_norm"):
        raise ValueError(
            "`input_norm` keeps the statistics of vectors, and pictures, which have a scale of "
            f"their own, are seen by {', '.join(team.pictured)}: use "
            "config.rl_module(model_config={'input_norm': False})."
        )


def check_absences(config: Any) -> None:
    """Raises ValueError where an absence would be taken for a death."""
    if config.layout.team.absences and config.returns_end_with_lives:
        raise ValueError(
            "The environment says `absences = True`, and what agents learn here are returns "
            "that end where they act no more: an absence would count as a death. Use an "
            "algorithm of the team's return (HAPPO, MAPPO, HASAC, QMIX, ...), or leave "
            "`absences` out of the environment if agents never return."
        )


def check_agent_index(config: Any) -> None:
    """Raises ValueError unless there is something that `agent_index` could change."""
    if not isinstance(config.agent_index, bool):
        raise ValueError(
            f"`agent_index` must be True or False, got {config.agent_index!r}. Set it with "
            "config.multi_agent(agent_index=...)."
        )
    num_agents, num_modules = len(config.layout.team.agents), len(config.layout.groups)
    if not config.agent_index and 1 < num_agents == num_modules:
        raise ValueError(
            "`agent_index` is for agents that share a module, and here each has its own: "
            "remove config.multi_agent(agent_index=False), or share modules with "
            "config.multi_agent(parameter_sharing='full')."
        )


def warn_of_wide_actions(config: Any) -> None:
    """An untrained Gaussian draws within about 1 of 0, whatever the bounds are."""
    if config.normalize_actions or config.policy_family != "stochastic":
        return
    wide = {
        a: space
        for a, space in _numbers_to_draw(config.layout.team)
        if isinstance(space, Box)
        and space.is_bounded()
        and max(abs(space.low).max(), abs(space.high).max()) > WIDE
    }
    if wide:
        agent, space = next(iter(wide.items()))
        logger.warning(
            "Actions of %s reach far from 0 (%s of agent %r), and an untrained policy draws "
            "within about 1 of it: it may never see most of them. "
            "config.environment(normalize_actions=True) stretches [-1, 1] to the bounds.",
            list(wide),
            space,
            agent,
        )


def _numbers_to_draw(team: Team) -> Iterator[tuple[AgentID, Any]]:
    for agent, moves in team.moves.items():
        for space in moves.flat.spaces if is_mixed(moves.flat) else [moves.flat]:
            yield agent, space


def warn_of_shared_networks(config: Any) -> None:
    """Says what becomes of updates one after another where agents share a network."""
    shared = [m for m, agents in config.layout.groups.items() if len(agents) > 1]
    if shared and not config.in_evaluation:
        logger.warning(
            "%s updates agents one after another, and the agents of %s share one network: "
            "each update then also moves the policies of the others, which it does not "
            "account for. This is the ablation of HARL's paper; its guarantees are for "
            "config.multi_agent(parameter_sharing='none').",
            config.algo_class.__name__,
            shared,
        )
