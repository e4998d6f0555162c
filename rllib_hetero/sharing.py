"""Who shares a module: from `config.multi_agent(parameter_sharing=...)` to a layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from rllib_hetero.errors import TeamError
from rllib_hetero.functional import POLICY_FAMILIES
from rllib_hetero.layout import CRITIC, AbsentMemory, Layout, ModuleID
from rllib_hetero.spaces import row_dtype
from rllib_hetero.team import AgentID, Team

ParameterSharing = str | Mapping[str, Sequence[AgentID]] | None

SHARED = "shared"
"""Module id of the one actor under `parameter_sharing="full"`."""

LONGEST_NAME = 200
"""Bytes of a module's name: file systems take 255, and endings are added."""

_ACTS_BY = {
    "stochastic": "HAPPO, MAPPO",
    "squashed": "HASAC, MASAC",
    "deterministic": "HADDPG, HATD3, MADDPG, MATD3",
}
"""Families that are not for a single Discrete only, and who has them."""


def lay_out(
    team: Team,
    sharing: ParameterSharing,
    *,
    autoregressive: bool = False,
    agent_index: bool = True,
    policy_family: str = "stochastic",
    absent_memory: AbsentMemory = "keep",
) -> Layout:
    """Maps agents to modules.

    Args:
        team: The team.
        sharing: "none" (each agent its own module, named after it), "full" (one module for
            all), or a mapping of group names to agents. Agents in no group get their own module.
        autoregressive: See `Layout`.
        agent_index: See `Layout`.
        policy_family: See `Layout`.
        absent_memory: See `Layout`.

    Raises:
        TeamError: For an unknown setting, unknown or repeated agents, a group whose agents have
            unequal spaces, or actions that the family has no distribution of. The message names
            what mends it.
    """
    _check_family(team, policy_family)
    if autoregressive:
        _check_context(team)
    mend = "Mend it with config.multi_agent(parameter_sharing=...)."
    if sharing == "none":
        named: Mapping[str, Sequence[AgentID]] = {}
    elif sharing == "full":
        named = {SHARED: team.agents}
    elif isinstance(sharing, Mapping):
        named = sharing
    else:
        raise TeamError(
            "`parameter_sharing` must be 'none', 'full' or a dict of group names to agents, "
            f"got {sharing!r}. {mend}"
        )

    groups: dict[ModuleID, tuple[AgentID, ...]] = {}
    taken: dict[AgentID, str] = {}
    for name, members in named.items():
        if not members:
            raise TeamError(f"The sharing group {name!r} is empty. {mend}")
        for agent in members:
            if agent not in team.agents:
                raise TeamError(
                    f"The sharing group {name!r} names the agent {agent!r}, which the "
                    f"environment does not have. Its agents: {list(team.agents)}. {mend}"
                )
            if agent in taken:
                raise TeamError(
                    f"The agent {agent!r} is in two sharing groups, {taken[agent]!r} and "
                    f"{name!r}. {mend}"
                )
            taken[agent] = name
            _check_equal_spaces(team, name, members[0], agent, mend)
        of_group = set(members)
        groups[name] = tuple(a for a in team.agents if a in of_group)
    for agent in team.agents:
        if agent not in taken:
            if str(agent) in groups:
                raise TeamError(
                    f"The name {str(agent)!r} is both a sharing group and an agent outside it. "
                    f"{mend}"
                )
            groups[str(agent)] = (agent,)
    for name in groups:
        _check_module_name(name)
    for agent in team.agents:
        if not _is_writable(agent):
            raise TeamError(
                f"The agent id {agent!r} is of the kind {type(agent).__name__}: a checkpoint "
                "cannot give it back as it is. Name agents by texts, whole numbers, or tuples of "
                "them."
            )
    if CRITIC in groups:
        raise TeamError(
            f"The name {CRITIC!r} is reserved for the centralised critic. Rename the agent in "
            "the environment, or put it into a sharing group of another name."
        )
    # Sorted, so that every learner walks the modules in the same order (Ray issue 63819).
    return Layout(
        team,
        dict(sorted(groups.items())),
        autoregressive,
        agent_index,
        policy_family,
        absent_memory,
    )


def _check_module_name(name: str) -> None:
    """A module's checkpoint is a folder, and its weights a file, of its name."""
    why = None
    if not isinstance(name, str):
        why = "it is no text"
    elif not name or name[-1] in " ." or name.startswith("__"):
        why = "it is empty, begins with two underscores, or ends with a blank or a dot"
    elif re.search(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]', name):
        why = 'it holds a control character or one of <>:"/\\|?*'
    elif len(name.encode()) > LONGEST_NAME:
        why = f"it has more than {LONGEST_NAME} bytes"
    if why:
        shown = repr(name) if len(str(name)) < 50 else f"{str(name)[:50]!r}..."
        raise TeamError(
            f"{shown} cannot name a module: {why}, and its checkpoint is a folder of that name. "
            "Rename the agent in the environment, or put it into a sharing group of another name: "
            "config.multi_agent(parameter_sharing={...})."
        )


def _is_writable(agent: AgentID) -> bool:
    """Whether JSON gives back an equal id; numpy's integers are equal to Python's."""
    if isinstance(agent, tuple):
        return all(map(_is_writable, agent))
    return isinstance(agent, str | int | np.integer)


def _check_family(team: Team, policy_family: str) -> None:
    refusal = _refusal(team, policy_family)
    if refusal:
        others = [names for family, names in _ACTS_BY.items() if not _refusal(team, family)]
        raise TeamError(f"{refusal} Algorithms for the actions of this team: {', '.join(others)}.")


def _refusal(team: Team, policy_family: str) -> str:
    """Why a family of policies cannot act for all of a team; "" where it can."""
    for agent in team.agents:
        try:
            POLICY_FAMILIES[policy_family](team.moves[agent].flat)
        except ValueError as error:
            return f"This algorithm cannot act for the agent {agent!r}: {error}"
    return ""


def _check_context(team: Team) -> None:
    """What agents that act in sequence know of each other are numbers: a row of bytes has none."""
    for agent in team.agents:
        if row_dtype(team.row_spaces[agent]) != np.float32:
            raise TeamError(
                f"The agent {agent!r} sees pictures of bytes, and agents that act in sequence need "
                "float32 rows, which also hold what the others have done. Wrap the environment so "
                "that it declares and returns float32 pictures (supersuit.dtype_v0(env, "
                "'float32')), which take four times the memory."
            )


def _check_equal_spaces(team: Team, group: str, first: AgentID, other: AgentID, mend: str) -> None:
    for what, spaces in (
        ("observation", team.observation_spaces),
        ("action", team.action_spaces),
    ):
        if spaces[first] != spaces[other]:
            raise TeamError(
                f"The agents {first!r} and {other!r} of the sharing group {group!r} have "
                f"unequal {what} spaces: {spaces[first]} and {spaces[other]}. Agents that "
                f"share a module need equal spaces. {mend}"
            )
    if (first in team.masked) != (other in team.masked):
        one, none = (first, other) if first in team.masked else (other, first)
        raise TeamError(
            f"Of the agents of the sharing group {group!r}, {one!r} has an action mask and "
            f"{none!r} has none. Agents that share a module need equal spaces. {mend}"
        )
