"""Target networks: slow copies, which a learner moves after the networks they are copies of."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from rllib_hetero.modules.input_norm import InputNorm

Network = TypeVar("Network", bound=nn.Module)


def target_of(network: Network) -> Network:
    """A copy that no gradient reaches. The learner moves it, pair by pair of `pairs`.

    Statistics of inputs are not copied: the target has the network's own. Its weights are a mean of
    what the network's were, and they can be added up only if all work on inputs in one unit.
    """
    shared = {id(part): part for part in network.modules() if isinstance(part, InputNorm)}
    return copy.deepcopy(network, shared).requires_grad_(False)


def pairs(target: nn.Module, online: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """(target, online) of every parameter of a network and its target; to be moved in `no_grad`."""
    return list(zip(target.parameters(), online.parameters(), strict=True))
