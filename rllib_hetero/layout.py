"""Which module acts for which agents of a team, and what goes into it and comes out of it.

`sharing.lay_out` makes a layout of a team and of who shares a module.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from rllib_hetero.functional import POLICY_FAMILIES, Distribution, message_size
from rllib_hetero.spaces import appended, row_dtype, signature
from rllib_hetero.team import AgentID, Team

ModuleID = str
AbsentMemory = Literal["keep", "reset"]

CRITIC = "critic"
"""Module id of the centralised critic. Reserved: no agent or sharing group may have it."""


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
