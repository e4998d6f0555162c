"""What recurrent policies remember while a runner samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.modules.memory import initial_state


class Memories:
    """The packed states of all agents in all environments, kept from step to step.

    Args:
        layout: Agents and modules.
        modules: The actors. Their initial states are read once.
        num_envs: E.
        device: Where the actors are.

    Attributes:
        sizes: Id of each recurrent module to S_m, the size of its state.
        stacks: For each stack, None if it has no recurrent module, else (M, E * n, S), where S is
            the largest of its modules; the others have theirs in the first entries.
    """

    def __init__(
        self, layout: Layout, modules: Mapping[ModuleID, Any], num_envs: int, device: Any
    ) -> None:
        self.sizes: dict[ModuleID, int] = {}
        self.stacks: list[Tensor | None] = []
        self._initial: list[Tensor | None] = []
        self._num_agents = [len(layout.groups[members[0]]) for members in layout.stacks]
        self._absences = layout.team.absences
        self._kept = layout.absent_memory == "keep"
        # Of each stack, (M, n): its agents' places in the team.
        self._columns = [
            [[layout.team.agents.index(a) for a in layout.groups[m]] for m in members]
            for members in layout.stacks
        ]
        for members in layout.stacks:
            states = [initial_state(modules[m]) for m in members]
            self.sizes.update({m: len(s) for m, s in zip(members, states, strict=True) if len(s)})
            size = max(len(s) for s in states)
            if not size:
                self.stacks.append(None)
                self._initial.append(None)
                continue
            first = torch.zeros(len(members), 1, size, device=device)
            for i, s in enumerate(states):
                first[i, 0, : len(s)] = s
            self._initial.append(first)
            self.stacks.append(first.repeat(1, num_envs * len(layout.groups[members[0]]), 1))

    def move_on(self, stack: int, after: Tensor | None, active: np.ndarray) -> None:
        """A stack has taken a step. Who was absent in it has not: it remembers what it did.

        Args:
            stack: Which one.
            after: (M, E * n, S), or None.
            active: (E, n of the team) bool, who acted in the step.
        """
        before, first = self.stacks[stack], self._initial[stack]
        if self._absences and before is not None and first is not None and after is not None:
            rows = active[:, self._columns[stack]].swapaxes(0, 1)  # (M, E, n)
            acted = torch.from_numpy(rows.reshape(len(first), -1, 1)).to(after.device)
            after = torch.where(acted, after, before if self._kept else first)
        self.stacks[stack] = after

    def reset(self, envs: Iterable[int]) -> None:
        """Episodes begin in these environments."""
        if not self.sizes:
            return
        envs = list(envs)
        for memory, first, n in zip(self.stacks, self._initial, self._num_agents, strict=True):
            if memory is not None and first is not None:
                memory[:, [e * n + k for e in envs for k in range(n)]] = first
