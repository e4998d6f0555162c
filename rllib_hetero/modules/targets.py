"""Target networks: slow copies, which a learner moves after the networks they are copies of."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def target_of(network: Network) -> Network:
    """A copy that no gradient reaches. The learner moves it, pair by pair of `pairs`."""
    return copy.deepcopy(network).requires_grad_(False)


def pairs(target: nn.Module, online: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """(target, online) of every parameter of a network and its target; to be moved in `no_grad`."""
    return list(zip(target.parameters(), online.parameters(), strict=True))
