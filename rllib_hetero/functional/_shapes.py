"""The shape check that opens every function of this package."""

from __future__ import annotations

from torch import Tensor


def same_shape(*, rank: int | None = None, **tensors: Tensor) -> None:
    """Checks that the named tensors have one shape, and that shape `rank` axes.

    Silent broadcasting is the fault this guards against: [B] with [B, 1] would become [B, B].

    Args:
        rank: Number of axes; None for any.
        **tensors: Tensors by the name that the message is to show.

    Raises:
        ValueError: If two shapes differ, or the rank is wrong.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"Shapes must be equal, got {shapes}.")
    if rank is not None and any(len(shape) != rank for shape in shapes.values()):
        raise ValueError(f"Tensors must have {rank} axes, got {shapes}.")
