"""What a team is: its agents, their spaces, its state, and who shares which module.

`Team` is read once from an environment, on the driver, before any actor starts. Everything
else (modules, runners, learner) is laid out from it, so that agents may differ in all of
their spaces without padding.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.spaces import Dict as DictSpace

from rllib_hetero.errors import TeamError
from rllib_hetero.functional import (
    POLICY_FAMILIES,
    Distribution,
    message_size,
    num_choices,
)
from rllib_hetero.spaces import (
    Moves,
    appended,
    has_pictures,
    joint_rows,
    row_dtype,
    row_space,
    signature,
)

AgentID = Hashable
ModuleID = str
RewardScheme = Literal["individual", "shared"]
ParameterSharing = str | Mapping[str, Sequence[AgentID]] | None
AbsentMemory = Literal["keep", "reset"]

CRITIC = "critic"
"""Module id of the centralised critic. Reserved: no agent or sharing group may have it."""

SHARED = "shared"
"""Module id of the one actor under `parameter_sharing="full"`."""

LONGEST_NAME = 200
"""Bytes of a module's name: file systems take 255, and endings are added."""

OBSERVATIONS, ACTION_MASK = "observations", "action_mask"
"""RLlib's keys of an observation that comes with an action mask."""


@dataclass(frozen=True)
class Team:
    """The agents of one environment.

    Attributes:
        agents: Agent ids in the environment's own order (`possible_agents`).
        observation_spaces: Agent id to the space of its observations, without its action mask: of
            any kind that `spaces.row_space` takes. They may differ.
        action_spaces: Agent id to the space of its actions, of any kind that `spaces.Moves` takes.
        state_space: The space of what the critic sees, of any kind as well; None where the
            environment has no global state. The state is then all observations, concatenated in
            agent order.
        reward_scheme: "individual" where agents have rewards of their own (the team's reward is
            their sum), "shared" where every agent is given the team's reward (counted once).
        masked: Agents whose observations come with an action mask: one entry for each choice of
            a Discrete, or of all components of a MultiDiscrete in order, and so on for all parts
            of a Tuple or Dict that are choices; positive means allowed.
        absences: Whether agents may be absent for some steps: come after the reset, miss steps, or
            return after their death. Else whoever is gone is gone until the next reset.
    """

    agents: tuple[AgentID, ...]
    observation_spaces: dict[Any, gym.Space]
    action_spaces: dict[Any, gym.Space]
    state_space: gym.Space | None = None
    reward_scheme: RewardScheme = "individual"
    masked: frozenset[AgentID] = frozenset()
    absences: bool = False

    def __post_init__(self) -> None:
        if not self.agents:
            raise TeamError("The environment has no agents: `possible_agents` is empty.")
        if self.reward_scheme not in ("individual", "shared"):
            raise TeamError(
                f"`reward_scheme` must be 'individual' or 'shared', got {self.reward_scheme!r}. "
                "Set it as an attribute of the environment."
            )
        # Made now, so that what is not supported is told now.
        _ = self.row_spaces, self.moves, self.state_rows
        for agent in self.agents:
            if agent in self.masked and not num_choices(self.moves[agent].flat):
                raise TeamError(
                    f"The agent {agent!r} has an action mask, but its action space is "
                    f"{self.action_spaces[agent]}. Masks are for actions with choices: leave the "
                    "mask out of its observations."
                )
        if not self.masked <= set(self.agents):
            raise TeamError(
                f"Agents with action masks must be of the team {list(self.agents)}, got "
                f"{sorted(map(str, self.masked - set(self.agents)))}."
            )

    @classmethod
    def from_env(cls, env: Any) -> Team:
        """Reads the team from an RLlib `MultiAgentEnv`.

        The environment may declare three things beyond RLlib's interface: `reward_scheme`
        ("individual" by default), a global state through the attribute `state_space` (a
        Box) together with a method `state() -> np.ndarray`, and `absences` (False). Where an
        observation space is a Dict of "observations" and "action_mask", as RLlib has it, the
        agent's actions are masked.

        Raises:
            TeamError: If spaces are missing or of a kind that is not supported.
        """
        agents = tuple(getattr(env, "possible_agents", None) or ())
        state_space = getattr(env, "state_space", None)
        if state_space is not None and not callable(getattr(env, "state", None)):
            raise TeamError("The environment has `state_space` but no method `state()`.")
        observation_spaces = {a: env.get_observation_space(a) for a in agents}
        action_spaces = {a: env.get_action_space(a) for a in agents}
        masked = frozenset(a for a in agents if _has_mask(observation_spaces[a]))
        for a in masked:
            _check_mask_space(a, observation_spaces[a][ACTION_MASK], action_spaces[a])
            observation_spaces[a] = observation_spaces[a][OBSERVATIONS]
        return cls(
            agents=agents,
            observation_spaces=observation_spaces,
            action_spaces=action_spaces,
            state_space=state_space,
            reward_scheme=getattr(env, "reward_scheme", "individual"),
            masked=masked,
            absences=bool(getattr(env, "absences", False)),
        )

    def ordered(self, agents: Sequence[AgentID]) -> Team:
        """The same team, its agents in the given order.

        Args:
            agents: All agents of the team.
        """
        return replace(self, agents=tuple(agents))

    @cached_property
    def row_spaces(self) -> dict[AgentID, Box]:
        """Agent id to the Box (d_i,) of the rows that its observations are kept as."""
        return {
            a: _rows(self.observation_spaces.get(a), f"observation space of agent {a!r}")
            for a in self.agents
        }

    @cached_property
    def state_rows(self) -> Box | None:
        """The Box (s,) of the rows that states are kept as; None without a global state."""
        return (
            None
            if self.state_space is None
            else _rows(self.state_space, "environment's `state_space`")
        )

    @cached_property
    def moves(self) -> dict[AgentID, Moves]:
        """Agent id to its actions, as its policy draws them and as the environment takes them."""
        return {a: _moves(a, self.action_spaces.get(a)) for a in self.agents}

    @property
    def equal_spaces(self) -> bool:
        """Whether all agents could share one module."""
        first = self.agents[0]
        return all(
            self.observation_spaces[a] == self.observation_spaces[first]
            and self.action_spaces[a] == self.action_spaces[first]
            and (a in self.masked) == (first in self.masked)
            for a in self.agents
        )

    @cached_property
    def critic_space(self) -> Box:
        """The critic's input: rows of the state, or of all observations side by side."""
        if self.state_rows is not None:
            return self.state_rows
        return joint_rows([self.row_spaces[a] for a in self.agents])

    @property
    def pictured(self) -> list[str]:
        """Who sees pictures: agents' names, and "the state"."""
        seen = {str(a): self.row_spaces[a] for a in self.agents}
        if self.state_rows is not None:
            seen["the state"] = self.state_rows
        return [name for name, space in seen.items() if has_pictures(space)]

    def team_reward(self, rewards: np.ndarray) -> np.ndarray:
        """The team's reward from the agents' rewards.

        Args:
            rewards: (..., n) rewards in agent order.

        Returns:
            (...) sum over agents, or the shared reward itself, by `reward_scheme`. A shared
            reward is the largest in size: all living agents hold the same, the dead hold 0.
        """
        if self.reward_scheme == "individual":
            return rewards.sum(-1)
        alive = np.abs(rewards).argmax(-1)
        return np.take_along_axis(rewards, alive[..., None], -1)[..., 0]


def differences(team: Team, other: Team) -> list[str]:
    """Why the policies of one team cannot act in another, in words; empty where they can.

    Bounds of observations, the state and the meaning of rewards do not matter to a policy.
    """
    unlike = [
        f"the {what} {', '.join(sorted(map(str, agents)))}"
        for what, agents in (
            ("agents lack", set(team.agents) - set(other.agents)),
            ("new agents are", set(other.agents) - set(team.agents)),
        )
        if agents
    ]
    if unlike:
        return unlike
    for agent in team.agents:
        rows = [t.row_spaces[agent] for t in (team, other)]
        told = [x.shape if type(x) is Box else x for x in rows]
        actions = [t.action_spaces[agent] for t in (team, other)]
        masks = ["one" if agent in t.masked else "none" for t in (team, other)]
        for what, (mine, others), same in (
            ("observation shape", told, signature(rows[0]) == signature(rows[1])),
            ("action space", actions, _same_actions(*actions)),
            ("action mask", masks, masks[0] == masks[1]),
        ):
            if not same:
                unlike.append(f"the {what} of agent {agent!r} is {others}, not {mine}")
    return unlike


def _same_actions(a: Any, b: Any) -> bool:
    """Whether two action spaces are the same but for the types of their numbers."""
    if isinstance(a, Box) and isinstance(b, Box):
        pairs = ((a.low, b.low), (a.high, b.high))
        return a.shape == b.shape and all(np.allclose(x, y) for x, y in pairs)
    if isinstance(a, MultiDiscrete) and isinstance(b, MultiDiscrete):
        return np.array_equal(a.nvec, b.nvec) and np.array_equal(a.start, b.start)
    if isinstance(a, Discrete) and isinstance(b, Discrete):
        return bool(a.n == b.n and a.start == b.start)
    return bool(a == b)


@dataclass(frozen=True)
class Layout:
    """Which module acts for which agents.

    Attributes:
        team: The team that is laid out.
        groups: Module id to its agents.
        autoregressive: Whether agents act one after another within a step. A module's input then
            ends with the context: one message of each agent, zeros until it has acted.
        agent_index: Whether a module with several agents receives the one-hot index of the acting
            agent within its group, appended to the observation.
        policy_family: Name of the family (`functional.POLICY_FAMILIES`) that the modules' outputs
            are parameters of.
        absent_memory: Whether an agent that returns after an absence remembers what was before
            it ("keep"), or starts as in a new episode ("reset"). Recurrent modules only.
    """

    team: Team
    groups: dict[ModuleID, tuple[AgentID, ...]]
    autoregressive: bool = False
    agent_index: bool = True
    policy_family: str = "stochastic"
    absent_memory: AbsentMemory = "keep"

    @cached_property
    def module_of(self) -> dict[AgentID, ModuleID]:
        return {a: m for m, agents in self.groups.items() for a in agents}

    @cached_property
    def slot_of(self) -> dict[AgentID, tuple[ModuleID, int]]:
        """Agent id to (module id, index on the agent axis of that module's arrays)."""
        return {a: (m, k) for m, agents in self.groups.items() for k, a in enumerate(agents)}

    @cached_property
    def stacks(self) -> tuple[tuple[ModuleID, ...], ...]:
        """Modules of equal input, agent count, action distribution and maskedness, together.

        Runners keep the arrays of a stack in one piece, and evaluate it in one pass.
        """
        stacks: dict[Any, list[ModuleID]] = {}
        for m, agents in self.groups.items():
            space = self.observation_space(m)
            key = (signature(space), len(agents), self.distribution(m), self.masked(m))
            stacks.setdefault(key, []).append(m)
        return tuple(tuple(members) for members in stacks.values())

    @cached_property
    def messages(self) -> dict[AgentID, slice]:
        """Where each agent's message lies in the context; empty unless autoregressive.

        A message is the action, as `functional.encode` has it, and a 1 behind it: an action of
        zeros is not the same as none.
        """
        messages: dict[AgentID, slice] = {}
        end = 0
        for agent in self.team.agents if self.autoregressive else ():
            start, end = (
                end,
                end + message_size(self.distribution(self.module_of[agent])) + 1,
            )
            messages[agent] = slice(start, end)
        return messages

    @property
    def context_size(self) -> int:
        """c, how many features at the end of every module's input are the context."""
        return sum(s.stop - s.start for s in self.messages.values())

    @property
    def joint_size(self) -> int:
        """Width of the joint action: the messages of all agents, side by side."""
        return sum(message_size(self.distribution(m)) for m in self.module_of.values())

    def index_size(self, module_id: ModuleID) -> int:
        """How many features of the module's input are the acting agent's one-hot index."""
        n = len(self.groups[module_id])
        return n if n > 1 and self.agent_index else 0

    def observation_space(self, module_id: ModuleID) -> Box:
        """The module's input space: the observation, the agent's index if any, the context."""
        return self._observation_spaces[module_id]

    @cached_property
    def _observation_spaces(self) -> dict[ModuleID, Box]:
        return {m: self._input_space(m) for m in self.groups}

    def _input_space(self, module_id: ModuleID) -> Box:
        space = self.team.row_spaces[self.groups[module_id][0]]
        one_hot = self.index_size(module_id)
        if one_hot:
            space = appended(space, "<agent>", np.zeros(one_hot), np.ones(one_hot))
        if self.context_size:
            inf = np.full(self.context_size, np.inf)
            space = appended(space, "<context>", -inf, inf)
        return space

    def row_dtype(self, module_id: ModuleID) -> np.dtype:
        """The dtype of the module's inputs: uint8 where its agents see pictures of bytes."""
        return row_dtype(self.team.row_spaces[self.groups[module_id][0]])

    def action_space(self, module_id: ModuleID) -> gym.Space:
        """What the module's policy draws from: `Moves.flat`."""
        return self.team.moves[self.groups[module_id][0]].flat

    def distribution(self, module_id: ModuleID) -> Distribution:
        """What lies over the module's outputs, from which its agents' actions are drawn."""
        return self._distributions[module_id]

    @cached_property
    def _distributions(self) -> dict[ModuleID, Distribution]:
        make = POLICY_FAMILIES[self.policy_family]
        return {m: make(self.action_space(m)) for m in self.groups}

    def masked(self, module_id: ModuleID) -> bool:
        """Whether the observations of the module's agents come with action masks."""
        return self.groups[module_id][0] in self.team.masked


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
    for agent in team.agents:
        try:
            POLICY_FAMILIES[policy_family](team.moves[agent].flat)
        except ValueError as error:
            raise TeamError(f"This algorithm cannot act for the agent {agent!r}: {error}") from None


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


def _rows(space: gym.Space | None, what: str) -> Box:
    try:
        return row_space(space)  # type: ignore[arg-type]
    except ValueError as why:
        raise TeamError(
            f"The {what} is {space}: {why}. Wrap the environment so that it declares and returns "
            "one of these (gymnasium.spaces.flatten makes an array of many)."
        ) from None


def _moves(agent: AgentID, space: gym.Space | None) -> Moves:
    try:
        return Moves(space)  # type: ignore[arg-type]
    except ValueError as why:
        raise TeamError(
            f"The action space of agent {agent!r} is {space}: {why}. Wrap the environment so that "
            "it declares one of these, and translates in step()."
        ) from None


def _has_mask(space: gym.Space | None) -> bool:
    return isinstance(space, DictSpace) and set(space) == {OBSERVATIONS, ACTION_MASK}


def _check_mask_space(agent: AgentID, mask: gym.Space, actions: gym.Space) -> None:
    expected = (num_choices(_moves(agent, actions).flat),)
    if expected != (0,) and mask.shape != expected:  # `Team` itself refuses those without choices.
        raise TeamError(
            f"The action mask of agent {agent!r} has the space {mask} of shape {mask.shape}; "
            f"{expected} is needed: one entry for each choice of {actions}, those of all "
            "components in order. Mend the environment's observation_spaces."
        )
