"""Several actors of one shape, evaluated as one batched network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ray.rllib.core import Columns
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from rllib_hetero.modules.actor import TeamActor

Forward = Callable[[Tensor], Tensor]


def stacked_forward(modules: Sequence[Any], *, explore: bool) -> Forward:
    """A function from (M, R, d), module m's R rows, to distribution inputs (M, R, p).

    Small networks on a CPU cost what their operator calls cost, whatever the batch: M actors of
    one shape are run as one network with batched matrix products. Modules of other classes, or
    of unequal shapes, are called one after another.

    Args:
        modules: M modules of equal input and output sizes. Their weights are copied: make a new
            function after they change.
        explore: Whether their exploration or inference pass is meant.
    """
    if all(type(m) is TeamActor for m in modules) and len({str(m) for m in modules}) == 1:
        return _batched(modules)

    def one_by_one(x: Tensor) -> Tensor:
        # The underscored methods: the public ones walk the module tree twice per call to switch
        # train and eval mode, which costs as much as a small network.
        with torch.no_grad():
            outs = [
                (m._forward_exploration if explore else m._forward_inference)({Columns.OBS: rows})
                for m, rows in zip(modules, x, strict=True)
            ]
        return torch.stack([out[Columns.ACTION_DIST_INPUTS] for out in outs])

    return one_by_one


@torch.no_grad()  # The stacked copies need no gradient, so neither does what they compute.
def _batched(actors: Sequence[TeamActor]) -> Forward:
    layers = [_stack_layer(layer) for layer in zip(*(a.body for a in actors), strict=True)]
    layers.append(_stack_layer([a.head for a in actors]))
    log_stds = [s for s in (a.log_std() for a in actors) if s is not None]
    log_std = torch.stack(log_stds)[:, None] if log_stds else None

    def forward(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        if log_std is None:
            return x
        return torch.cat([x, log_std.expand_as(x)], dim=-1)

    return forward


def _stack_layer(layers: Sequence[nn.Module]) -> Forward:
    first = layers[0]
    if isinstance(first, nn.LayerNorm):
        weight, bias = _stack(layers, "weight")[:, None], _stack(layers, "bias")[:, None]
        shape, eps = first.normalized_shape, first.eps
        return lambda x: torch.addcmul(bias, layer_norm(x, shape, eps=eps), weight)
    if isinstance(first, nn.Linear):
        weight = _stack(layers, "weight").transpose(1, 2).contiguous()
        bias = _stack(layers, "bias")[:, None]
        return lambda x: torch.baddbmm(bias, x, weight)
    return first  # An activation: it has no weights.


def _stack(layers: Sequence[nn.Module], name: str) -> Tensor:
    return torch.stack([getattr(layer, name) for layer in layers])
