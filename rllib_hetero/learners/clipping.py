"""How far a gradient may reach: RLlib's `grad_clip` and `grad_clip_by`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
)

from rllib_hetero.errors import NonFiniteUpdateError

GRAD_CLIP_BY = ("global_norm", "norm", "value")
"""What `grad_clip_by` may be."""


def clip_gradients(
    parameters: Sequence[torch.nn.Parameter], limit: float | None, by: str
) -> Tensor:
    """Clips in place the gradients that an optimiser will step on, `p.grad` of every p.

    RLlib's own function puts clipped values into a dict of gradients, and by value these are new
    tensors, which no optimiser sees.

    Args:
        parameters: Those of one module that have a gradient.
        limit: `grad_clip`; None leaves all as it is.
        by: "global_norm": the norm of all gradients together is at most `limit`; "norm": that of
            every tensor; "value": every entry lies in [-limit, limit].

    Returns:
        The global norm before. Not finite if any entry was not.

    Raises:
        ValueError: If `by` is another word.
    """
    norm = _norm([p.grad for p in parameters if p.grad is not None])
    if limit is None:
        return norm
    if by == "global_norm":
        # On a GPU, to look at the norm is to wait for it.
        if norm.is_cuda or norm > limit:
            clip_grads_with_norm_(parameters, limit, norm)
    elif by == "norm":
        for p in parameters:
            clip_grad_norm_(p, limit)
    elif by == "value":
        clip_grad_value_(parameters, limit)
    else:  # A module's own setting: `validate` has seen the others.
        raise ValueError(
            f"`grad_clip_by` is {by!r}; use one of {GRAD_CLIP_BY} in "
            "config.rl_module(algorithm_config_overrides_per_module=...)."
        )
    return norm


def check_finite(norm: Tensor, module_id: str, update: int) -> None:
    """Raises NonFiniteUpdateError before a step along a gradient that is not finite.

    Args:
        norm: Of the gradient.
        module_id: Whose it is.
        update: Number of the update, for the message.
    """
    if not torch.isfinite(norm):
        raise NonFiniteUpdateError(
            f"The gradient of module {module_id!r} is NaN or infinite in update {update}; this "
            "step was not taken. The last checkpoint is untouched: restore it, and lower "
            "config.training(lr=...), or look for extreme rewards or observations in the "
            "environment."
        )


def _norm(gradients: list[Tensor]) -> Tensor:
    # As torch's `get_total_norm`, which first sorts by device and dtype: here it is one module's.
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(gradients))))
