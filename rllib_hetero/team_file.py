"""`team.json`: the team that saved policies act for, as data. It may come from anybody.

All of it is looked at before anything is made of it: kinds, sizes, names, how it fits together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rllib_hetero.errors import TeamError
from rllib_hetero.files import read_json
from rllib_hetero.functional import POLICY_FAMILIES
from rllib_hetero.layout import AbsentMemory, Layout, ModuleID
from rllib_hetero.sharing import lay_out
from rllib_hetero.space_file import Room, read_space
from rllib_hetero.team import AgentID, Team

TEAM_FILE = "team.json"
FORMAT = 1

_LARGEST = 64 * 2**20  # bytes; ten thousand agents with a hundred numbers each
_MOST_AGENTS = 10_000
_LONGEST_MODEL = 100_000  # characters of a module's settings


@dataclass(frozen=True)
class TeamFile:
    """What the file says.

    Attributes:
        layout: The team, and who acts by which module.
        order: In which order the agents act.
        classes: Module to the name of its class, "module:name".
        model_configs: Module to its settings.
        clip_actions: As in the training's config.
        normalize_actions: As in the training's config.
        connectors: The user's, that the policies were trained behind; they are not written.
        not_written: Settings of modules that are no plain data.
    """

    layout: Layout
    order: list[AgentID]
    classes: dict[ModuleID, str]
    model_configs: dict[ModuleID, dict[str, Any]]
    clip_actions: bool
    normalize_actions: bool
    connectors: list[str]
    not_written: list[str]


def read_team_file(folder: Path) -> TeamFile:
    """Reads and checks the file of a checkpoint's policies.

    Raises:
        FileNotFoundError: If it is missing.
        TeamError: If it is not what this library writes. The message says where.
    """
    path = folder / TEAM_FILE
    told = read_json(path, most=_LARGEST, within=folder)
    try:
        return _parsed(told)
    except TeamError as problem:
        raise TeamError(f"{path} is not as this library writes it: {problem}") from None


def _parsed(told: Any) -> TeamFile:
    _must(isinstance(told, dict), "it must be an object of names and values.")
    version = told.get("format")
    _must(version == FORMAT, f"it has the format {version!r:.50}, and this version reads {FORMAT}.")
    agents = _agents(told, "agents")
    _must(0 < len(agents) <= _MOST_AGENTS, f"`agents` must be 1 to {_MOST_AGENTS:,}.")
    spaces = {}
    room = Room()
    for name in ("observation_spaces", "action_spaces"):
        described = _of_kind(told, name, list)
        _must(len(described) == len(agents), f"`{name}` must have one space for each agent.")
        spaces[name] = [read_space(d, room) for d in described]
    team = Team(
        agents=tuple(agents),
        observation_spaces=dict(zip(agents, spaces["observation_spaces"], strict=True)),
        action_spaces=dict(zip(agents, spaces["action_spaces"], strict=True)),
        masked=frozenset(_agents(told, "masked")),
        absences=_of_kind(told, "absences", bool),
    )
    order = told.get("execution_order")
    if order is not None:
        order = _agents(told, "execution_order")
        _must(set(order) == set(agents), "`execution_order` must name every agent once.")
    layout = _layout(told, team, autoregressive=order is not None)
    modules = _of_kind(told, "modules", dict)
    _must(modules.keys() == layout.groups.keys(), "`modules` and `groups` must have one name each.")
    for name, about in modules.items():
        _must(isinstance(about, dict), f"the module {name!r} must have a class and settings.")
        _must(
            len(json.dumps(_of_kind(about, "model_config", dict))) <= _LONGEST_MODEL,
            f"the settings of the module {name!r} are longer than {_LONGEST_MODEL:,} characters.",
        )
    return TeamFile(
        layout,
        order or agents,
        classes={name: _of_kind(about, "class", str) for name, about in modules.items()},
        model_configs={name: about["model_config"] for name, about in modules.items()},
        clip_actions=_of_kind(told, "clip_actions", bool),
        normalize_actions=_of_kind(told, "normalize_actions", bool),
        connectors=_texts(told, "connectors"),
        not_written=_texts(told, "not_written"),
    )


def _layout(told: dict[str, Any], team: Team, *, autoregressive: bool) -> Layout:
    """As `lay_out` makes it, which finds what does not fit together."""
    groups = {}
    for name, members in _of_kind(told, "groups", dict).items():
        _must(isinstance(members, list), f"the group {name!r:.100} must be a list of agents.")
        groups[name] = _agents({"of the group": members}, "of the group")
    _must(
        sum(map(len, groups.values())) == len(team.agents),
        "`groups` must have every agent in one group.",
    )
    family = _of_kind(told, "policy_family", str)
    _must(family in POLICY_FAMILIES, f"there is no policy family {family!r:.50}.")
    memory: Any = _of_kind(told, "absent_memory", str)
    _must(memory in get_args(AbsentMemory), f"`absent_memory` cannot be {memory!r:.50}.")
    return lay_out(
        team,
        groups,
        autoregressive=autoregressive,
        agent_index=_of_kind(told, "agent_index", bool),
        policy_family=family,
        absent_memory=memory,
    )


def _must(good: bool, otherwise: str) -> None:
    if not good:
        raise TeamError(otherwise)


def _of_kind(told: dict[str, Any], name: str, kind: type) -> Any:
    _must(name in told, f"`{name}` is missing.")
    value = told[name]
    _must(isinstance(value, kind), f"`{name}` must be a {kind.__name__}, got {value!r:.50}.")
    return value


def _texts(told: dict[str, Any], name: str) -> list[str]:
    texts = _of_kind(told, name, list)
    _must(all(isinstance(x, str) and len(x) < 500 for x in texts), f"`{name}` must be texts.")
    return texts


def _agents(told: dict[str, Any], name: str) -> list[AgentID]:
    agents = [agent_id(x) for x in _of_kind(told, name, list)]
    _must(len(set(agents)) == len(agents), f"`{name}` must name no agent twice.")
    return agents


def agent_id(x: Any) -> AgentID:
    """An agent's id as it was, from JSON.

    Raises:
        TeamError: If it is no id.
    """
    if isinstance(x, list) and len(x) < 100:  # JSON has no tuples
        return tuple(agent_id(part) for part in x)
    named = (isinstance(x, str) and len(x) <= 1000) or isinstance(x, int)
    _must(named, f"an agent is named by a text, a whole number or a list of them, not {x!r:.50}.")
    return x
