"""Sums over learners. With one learner every function here returns its input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist


def num_learners() -> int:
    """How many learners take part in this update."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_learners(x: torch.Tensor) -> torch.Tensor:
    """The elementwise sum of every learner's tensor of this shape; collective."""
    if num_learners() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def counts_of_learners(count: int) -> tuple[int, int]:
    """The sum of the counts of the learners before this one, and of all of them; collective."""
    if num_learners() == 1:
        return 0, count
    counts = torch.zeros(num_learners(), dtype=torch.int64, device=_device())
    counts[dist.get_rank()] = count
    dist.all_reduce(counts)
    return int(counts[: dist.get_rank()].sum()), int(counts.sum())


def span_of_learner(size: float) -> tuple[float, float, float]:
    """Where this learner's part lies if all learners' are laid end to end; collective.

    Args:
        size: Of this learner's part.

    Returns:
        Its start and its end, which to the bit is the next learner's start; and the last one's end.
    """
    if num_learners() == 1:
        return 0.0, size, size
    sizes = torch.zeros(num_learners() + 1, dtype=torch.float64, device=_device())
    sizes[dist.get_rank() + 1] = size
    dist.all_reduce(sizes)
    ends = sizes.cumsum(0).tolist()
    return ends[dist.get_rank()], ends[dist.get_rank() + 1], ends[-1]


def max_over_learners(x: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum of every learner's tensor of this shape; collective."""
    if num_learners() > 1:
        x = x.clone()
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
    return x


def sum_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replaces every gradient by its sum over learners, in one message; collective.

    Explicit sums instead of a DDP wrapper: the order of messages is the order of the calls,
    which is the same on every learner whatever its batch holds.
    """
    if num_learners() == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    parts = flat.split([g.numel() for g in gradients])
    for p, part in zip(parameters, parts, strict=True):
        p.grad = part.view_as(p)


def copy_from_first_learner(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrites the tensors with the first learner's; collective."""
    if num_learners() > 1:
        for t in tensors:
            dist.broadcast(t.data, src=0)


def _device() -> torch.device:
    """Where the backend's messages must lie: NCCL takes those on a GPU only."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
