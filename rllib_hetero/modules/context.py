"""How an actor takes in the actions of the agents that acted before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rllib_hetero.modules.networks import mlp

CONTEXT_SIZE = "context_size"
"""Key of an actor's `model_config`: how many features at its input's end are the context."""


class ProjectedContext(nn.Module):
    """Adds the context to the features through a network of its own, then normalises.

    A linear head on features and actions can only shift its outputs by the predecessors' actions,
    whatever is observed; through the network they change the outputs in any way.

    Args:
        context_size: c.
        size: h, the size of the features before and after.
        model: The whole `model_config`.

    Reference:
        Li et al., "Backpropagation Through Agents", AAAI 2024, high-dimensional projection
        (Figure 13); layers as in the authors' code.
    """

    def __init__(self, context_size: int, size: int, model: Mapping[str, Any]) -> None:
        super().__init__()
        self.size = size
        self.projection = mlp(
            context_size,
            [*model["hidden_sizes"][:-1], size],
            activation=model["activation"],
            layer_norm=model["layer_norm"],
        )
        self.norm = nn.LayerNorm(size) if model["layer_norm"] else nn.Identity()

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        """(..., h) from features (..., h) and context (..., c)."""
        return self.norm(features + self.projection(context))


class AppendedContext(nn.Module):
    """Appends the context to the features, so that the head is linear in the actions.

    Args:
        context_size: c.
        size: h, the size of the features before.
    """

    def __init__(self, context_size: int, size: int) -> None:
        super().__init__()
        self.size = size + context_size

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        """(..., h + c) from features (..., h) and context (..., c)."""
        return torch.cat([features, context], dim=-1)


Context = ProjectedContext | AppendedContext


def context_from(model: Mapping[str, Any], size: int) -> Context | None:
    """What a `model_config` asks for; None for an actor that acts on its observation alone.

    Args:
        model: The whole `model_config`.
        size: Size of the features that the observation has become.
    """
    context_size = model.get(CONTEXT_SIZE, 0)
    if not context_size:
        return None
    if model["action_projection"]:
        return ProjectedContext(context_size, size, model)
    return AppendedContext(context_size, size)
