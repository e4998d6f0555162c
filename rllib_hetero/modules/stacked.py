"""Several actors of one shape, evaluated as one batched network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from ray.rllib.core import Columns
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.categorical_actor import CategoricalActor
from rllib_hetero.modules.deterministic_actor import DeterministicActor
from rllib_hetero.modules.dueling import DuelingHead
from rllib_hetero.modules.encoders import RowEncoder
from rllib_hetero.modules.input_norm import InputNorm
from rllib_hetero.modules.memory import Memory, initial_state, pack, unpack
from rllib_hetero.modules.q_network import QNetwork
from rllib_hetero.modules.squashed_actor import SquashedActor

Layer = Callable[[Tensor], Tensor]
Cell = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Forward = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]

_STACKABLE = (TeamActor, DeterministicActor, SquashedActor, CategoricalActor, QNetwork)


class Stackable(Protocol):
    """An actor in parts: body, memory if any, head, `finish`, and then its constants.

    Actors whose text (`str`) is the same differ in nothing but the numbers in these parts.
    """

    body: nn.Sequential
    memory: Memory | None
    head: nn.Module

    def finish(self, x: Tensor) -> Tensor:
        """What becomes of the head's output (..., j); has no weights."""

    def constants(self) -> Tensor | None:
        """(c,) distribution inputs that follow, the same whatever is observed; or None."""


def stacked_forward(modules: Sequence[Any], *, explore: bool) -> Forward:
    """A function of one time step: observations and memory in, distribution inputs and memory out.

    It maps (M, R, d), module m's R rows, and packed states (M, R, S) to (M, R, p) and the states
    after the step. S is the largest state of these modules: one with a smaller state has its own
    in the first entries. Where no module has a state, there is None in place of the states.

    Small networks on a CPU cost what their operator calls cost, whatever the batch: M actors of
    one shape are run as one network with batched matrix products. Modules of other classes, or
    of unequal shapes, are called one after another.

    Args:
        modules: M modules of equal input and output sizes. Their weights are copied: make a new
            function after they change.
        explore: Whether their exploration or inference pass is meant.
    """
    return _batched(modules) if of_one_shape(modules) else _one_by_one(modules, explore)


def of_one_shape(modules: Sequence[Any]) -> bool:
    """Whether these are actors of this library that differ in nothing but their weights."""
    return type(modules[0]) in _STACKABLE and len({(type(m), str(m)) for m in modules}) == 1


def _one_by_one(modules: Sequence[Any], explore: bool) -> Forward:
    # The underscored methods: the public ones walk the module tree twice per call to switch
    # train and eval mode, which costs as much as a small network.
    passes = [m._forward_exploration if explore else m._forward_inference for m in modules]
    sizes = [len(initial_state(m)) for m in modules]

    @torch.no_grad()
    def forward(x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = x.clone()  # Modules of others may write into it.
        inputs = []
        after = None if memory is None else memory.clone()
        for i, (module, size) in enumerate(zip(modules, sizes, strict=True)):
            if memory is None or after is None or not size:
                inputs.append(passes[i]({Columns.OBS: x[i]})[Columns.ACTION_DIST_INPUTS])
                continue
            state = unpack(memory[i, :, :size], module)
            out = passes[i]({Columns.OBS: x[i, :, None], Columns.STATE_IN: state})
            inputs.append(out[Columns.ACTION_DIST_INPUTS][:, 0])
            after[i, :, :size] = pack(out[Columns.STATE_OUT])
        return torch.stack(inputs), after

    return forward


def _batched(actors: Sequence[Stackable]) -> Forward:
    features, head = stacked_features(actors), stacked_head(actors)

    def forward(x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x, memory = features(x, memory)
        return head(x), memory

    return forward


# The stacked copies below need no gradient, so neither does what they compute.


@torch.no_grad()
def stacked_features(actors: Sequence[Stackable]) -> Forward:
    """Observations and memory in, the features that the actors' heads work on out."""
    body = stack_layer([a.body for a in actors])
    memories = [a.memory for a in actors if a.memory is not None]
    remember = _stack_memories(memories) if memories else None

    def forward(x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = body(x)
        if remember is not None:
            assert memory is not None
            x, memory = remember(x, memory)
        return x, memory

    return forward


@torch.no_grad()
def stacked_head(actors: Sequence[Stackable]) -> Layer:
    """Features (M, R, h) in, distribution inputs (M, R, p) out."""
    head = stack_layer([a.head for a in actors])
    finish = actors[0].finish
    all_constants = [c for c in (a.constants() for a in actors) if c is not None]
    if not all_constants:
        return lambda x: finish(head(x))
    constants = torch.stack(all_constants)[:, None]

    def outputs(x: Tensor) -> Tensor:
        x = finish(head(x))
        return torch.cat([x, constants.expand(-1, x.shape[1], -1)], dim=-1)

    return outputs


@torch.no_grad()
def stack_layer(layers: Sequence[nn.Module]) -> Layer:
    """One layer of M networks, as a function of (M, R, in) to (M, R, out)."""
    first = layers[0]
    if isinstance(first, nn.Sequential):
        return _in_turn([stack_layer(parts) for parts in zip(*layers, strict=True)])
    if isinstance(first, DuelingHead):
        value, advantage = (
            stack_layer([getattr(layer, name) for layer in layers])
            for name in ("value", "advantage")
        )
        return lambda x: first.combine(value(x), advantage(x))
    if isinstance(first, InputNorm):
        affine = [layer.affine() for layer in layers if isinstance(layer, InputNorm)]
        shift, scale = (torch.stack(part)[:, None] for part in zip(*affine, strict=True))
        limit = first.limit
        return lambda x: torch.addcmul(shift, x, scale).clamp_(-limit, limit)
    if isinstance(first, RowEncoder):
        return _each(layers)
    if len(layers) == 1:
        return _one_layer(first)
    if isinstance(first, nn.LayerNorm):
        weight, bias = _stack(layers, "weight")[:, None], _stack(layers, "bias")[:, None]
        shape, eps = first.normalized_shape, first.eps
        return lambda x: torch.addcmul(bias, layer_norm(x, shape, eps=eps), weight)
    if isinstance(first, nn.Linear):
        weight = _stack(layers, "weight").transpose(1, 2).contiguous()
        bias = _stack(layers, "bias")[:, None]
        return lambda x: torch.baddbmm(bias, x, weight)
    return first  # An activation, or the identity: it has no weights.


def _in_turn(layers: Sequence[Layer]) -> Layer:
    def forward(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return forward


def _each(layers: Sequence[nn.Module]) -> Layer:
    """One after another: convolutions cost what they compute, not their calls."""

    @torch.no_grad()
    def forward(x: Tensor) -> Tensor:
        return torch.stack([layer(rows) for layer, rows in zip(layers, x, strict=True)])

    return forward


def _one_layer(layer: nn.Module) -> Layer:
    """The same for M = 1, with fewer operators."""
    if isinstance(layer, nn.LayerNorm):
        weight, bias = layer.weight.clone(), layer.bias.clone()
        return lambda x: layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    if isinstance(layer, nn.Linear):
        weight, bias = layer.weight.clone(), layer.bias.clone()
        return lambda x: linear(x, weight, bias)
    return layer


def _stack_memories(memories: Sequence[Memory]) -> Cell:
    """One time step: (M, R, in_size) and packed states (M, R, S) to features and states."""
    layers = [m.layer for m in memories]
    norm = stack_layer([m.norm for m in memories])
    from_input, from_state = (
        _stack(layers, name).transpose(1, 2).contiguous()
        for name in ("weight_ih_l0", "weight_hh_l0")
    )
    input_bias, state_bias = (
        _stack(layers, name)[:, None] for name in ("bias_ih_l0", "bias_hh_l0")
    )

    def gru(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        r, z, n = torch.baddbmm(input_bias, x, from_input).chunk(3, dim=-1)
        r_h, z_h, n_h = torch.baddbmm(state_bias, h, from_state).chunk(3, dim=-1)
        n = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
        h = torch.lerp(n, h, torch.sigmoid(z + z_h))
        return norm(h), h

    def lstm(x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        c, h = memory.chunk(2, dim=-1)  # Packed in the order of their names.
        gates = torch.baddbmm(input_bias, x, from_input)
        gates = gates + torch.baddbmm(state_bias, h, from_state)
        i, f, g, o = gates.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return norm(h), torch.cat([c, h], dim=-1)

    return gru if isinstance(layers[0], nn.GRU) else lstm


def _stack(layers: Sequence[nn.Module], name: str) -> Tensor:
    return torch.stack([getattr(layer, name) for layer in layers])
