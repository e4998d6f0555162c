"""The parameters that a peer has in common with others, as one vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


class SharedPart:
    """Chosen parameters of one peer, end to end in a vector (D,).

    Args:
        parameters: All parameters of the peer by name, of one dtype and on one device.
        chosen: Which names are shared. The others are individual: nobody else ever sees them.

    Attributes:
        names: The names that are shared, sorted.
        parameters: Their parameters, in this order.
        size: D.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], chosen: Callable[[str], bool]
    ) -> None:
        self.names = sorted(name for name in parameters if chosen(name))
        self.parameters = [parameters[name] for name in self.names]
        self.size = sum(p.numel() for p in self.parameters)

    @property
    def signature(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes: what all peers must agree in."""
        return [(name, tuple(p.shape)) for name, p in zip(self.names, self.parameters, strict=True)]

    @property
    def nbytes(self) -> int:
        """Bytes of the vector."""
        return sum(p.numel() * p.element_size() for p in self.parameters)

    @torch.no_grad()
    def vector(self) -> Tensor:
        """(D,) a copy of the parameters, on their device."""
        if not self.parameters:
            return torch.zeros(0)
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    @torch.no_grad()
    def load(self, vector: Tensor) -> None:
        """Overwrites the parameters by a vector (D,)."""
        for p, part in zip(self.parameters, self.split(vector), strict=True):
            p.copy_(part)

    def split(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector (D,) in the parameters' shapes."""
        parts = vector.split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]


def trainable(parts: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """All parameters that gradients move, by the part's name, a dot, and their own."""
    return {
        f"{part}.{name}": p
        for part, module in parts.items()
        for name, p in module.named_parameters()
        if p.requires_grad
    }


def difference_of(mine: SharedPart, theirs: SharedPart) -> str | None:
    """The first name in which two peers' shared parts differ, and how; None if in nothing."""
    own, other = dict(mine.signature), dict(theirs.signature)
    for name in sorted(own.keys() | other.keys()):
        if own.get(name) != other.get(name):
            shapes = " and ".join(str(x.get(name, "missing")) for x in (own, other))
            return f"{name}: {shapes}"
    return None
