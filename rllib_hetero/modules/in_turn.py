"""One step of an autoregressive team: all agents look at once, then decide one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.core import Columns
from torch import Tensor

from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.context import ProjectedContext
from rllib_hetero.modules.memory import initial_state, pack, unpack
from rllib_hetero.modules.stacked import of_one_shape, stack_layer, stacked_features, stacked_head


class TurnForward(ABC):
    """The step of M modules of one stack. First `look`, then `decide` for every agent.

    Attributes:
        memory: Packed states (M, R, S) after the step, or None where no module has one.
    """

    memory: Tensor | None

    @abstractmethod
    def look(self, x: Tensor, memory: Tensor | None) -> None:
        """What can be done before anyone has acted.

        Args:
            x: (M, R, d - c) inputs without their context.
            memory: (M, R, S) packed states, or None.
        """

    @abstractmethod
    def decide(self, module: int, rows: slice, context: Tensor) -> Tensor:
        """An agent's distribution inputs (E, p).

        Args:
            module: Index of its module, among the M.
            rows: Its E rows, among the R.
            context: (E, c) the messages of those that have acted.
        """


def turn_forward(modules: Sequence[Any], *, explore: bool) -> TurnForward:
    """The step of these modules.

    Args:
        modules: M modules of equal input and output sizes. Their weights are copied: make a new
            one after they change.
        explore: Whether their exploration or inference pass is meant.
    """
    if type(modules[0]) is TeamActor and of_one_shape(modules):
        return _Batched(modules)
    return _WholePasses(modules, explore)


class _Batched(TurnForward):
    """All that does not depend on others' actions is one batched pass of the whole stack."""

    def __init__(self, actors: Sequence[TeamActor]) -> None:
        self._features = stacked_features(actors)
        self._tails = [_tail(a) for a in actors]

    def look(self, x: Tensor, memory: Tensor | None) -> None:
        self._seen, self.memory = self._features(x, memory)

    def decide(self, module: int, rows: slice, context: Tensor) -> Tensor:
        return self._tails[module](self._seen[module, rows], context)


def _tail(actor: TeamActor) -> Any:
    """An actor from its features (E, h) and the context (E, c) on."""
    head = stacked_head([actor])
    if not isinstance(actor.context, ProjectedContext):
        return lambda x, context: head(torch.cat([x, context], dim=-1)[None])[0]
    layers = [stack_layer([layer]) for layer in actor.context.projection]
    norm = stack_layer([actor.context.norm])

    def forward(x: Tensor, context: Tensor) -> Tensor:
        projected = context[None]
        for layer in layers:
            projected = layer(projected)
        return head(norm(projected + x))[0]

    return forward


class _WholePasses(TurnForward):
    """Modules of any class: every agent's whole pass when its turn comes."""

    def __init__(self, modules: Sequence[Any], explore: bool) -> None:
        self._modules = modules
        # The underscored methods: see `stacked_forward`.
        self._passes = [
            m._forward_exploration if explore else m._forward_inference for m in modules
        ]
        self._sizes = [len(initial_state(m)) for m in modules]

    def look(self, x: Tensor, memory: Tensor | None) -> None:
        self._x = x
        self.memory = None if memory is None else memory.clone()

    @torch.no_grad()
    def decide(self, module: int, rows: slice, context: Tensor) -> Tensor:
        x, size = torch.cat([self._x[module, rows], context], dim=-1), self._sizes[module]
        if self.memory is None or not size:
            return self._passes[module]({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
        state = unpack(self.memory[module, rows, :size], self._modules[module])
        out = self._passes[module]({Columns.OBS: x[:, None], Columns.STATE_IN: state})
        self.memory[module, rows, :size] = pack(out[Columns.STATE_OUT])
        return out[Columns.ACTION_DIST_INPUTS][:, 0]
