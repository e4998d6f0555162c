"""Action masks: which choices of a discrete action are allowed in a sample."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.functional.distributions import Distribution

_LOWEST = np.finfo(np.float32).min


def mask_logits(inputs: Tensor, mask: Tensor) -> Tensor:
    """Takes the forbidden choices out of a discrete distribution.

        x where allowed, the lowest finite number of the dtype elsewhere

    The probability of a forbidden choice is then exactly 0, and log-probabilities of the allowed
    ones, entropy and KL are those of the distribution over the allowed choices. Their gradients
    are finite, and 0 for the forbidden logits, which are not read: they may be NaN. A finite
    number and not -inf, because differences such as -inf - (-inf) would be NaN.

    A component without any allowed choice becomes uniform; see `nothing_allowed`.

    Args:
        inputs: [..., p] logits of a `Categorical` or `MultiCategorical`, or values of actions.
        mask: [..., p] bool, True = allowed.

    Returns:
        [..., p] logits.

    Raises:
        ValueError: If shapes differ, `mask` is not bool or `inputs` is not floating point.
    """
    same = inputs.shape == mask.shape
    if not same or mask.dtype != torch.bool or not inputs.is_floating_point():
        raise ValueError(
            "A bool mask of the shape of the floating-point logits is needed, got "
            f"{tuple(mask.shape)} {mask.dtype} on {tuple(inputs.shape)} {inputs.dtype}."
        )
    return torch.where(mask, inputs, torch.finfo(inputs.dtype).min)


def mask_logits_array(inputs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`mask_logits` in numpy, for the sampling loop.

    Any noise that `Distribution.act` adds is lost in rounding next to the lowest number: a
    forbidden choice is never picked where another is allowed.

    Args:
        inputs: [..., p] float32 logits.
        mask: [..., p] bool, True = allowed.

    Returns:
        [..., p] float32 logits.

    Raises:
        ValueError: If shapes differ, `mask` is not bool or `inputs` is not floating point.
    """
    same = inputs.shape == mask.shape
    if not same or mask.dtype != np.bool_ or not np.issubdtype(inputs.dtype, np.floating):
        raise ValueError(
            "A bool mask of the shape of the floating-point logits is needed, got "
            f"{mask.shape} {mask.dtype} on {inputs.shape} {inputs.dtype}."
        )
    return np.where(mask, inputs, _LOWEST).astype(np.float32, copy=False)


def mask_choices(dist: Distribution, inputs: Tensor, mask: Tensor) -> Tensor:
    """`mask_logits` on all inputs of a distribution, some of which may be no logits.

    Args:
        dist: The distribution.
        inputs: [..., size] parameters, the logits or values in front.
        mask: [..., p] bool, True = allowed; p is the sum of its `choices`.

    Returns:
        [..., size] parameters.

    Raises:
        ValueError: As `mask_logits`.
    """
    p = sum(dist.choices)
    if p == inputs.shape[-1]:
        return mask_logits(inputs, mask)
    return torch.cat([mask_logits(inputs[..., :p], mask), inputs[..., p:]], dim=-1)


def mask_inputs(dist: Distribution, inputs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`mask_logits_array` on all inputs of a distribution, some of which may be no logits.

    Args:
        dist: The distribution.
        inputs: [..., size] float32 parameters, the logits or values in front.
        mask: [..., p] bool, True = allowed; p is the sum of its `choices`.

    Returns:
        [..., size] float32 parameters, a new array.

    Raises:
        ValueError: As `mask_logits_array`.
    """
    p = sum(dist.choices)
    masked = inputs.copy()
    masked[..., :p] = mask_logits_array(inputs[..., :p], mask)
    return masked


def nothing_allowed(mask: np.ndarray, dist: Distribution) -> np.ndarray:
    """Finds the samples whose mask leaves no action.

    Args:
        mask: [..., p] bool, True = allowed.
        dist: The distribution that the mask is for; p is the sum of its `choices`.

    Returns:
        [...] bool, True where all choices of any one component are forbidden.

    Raises:
        ValueError: If the shape does not fit, `mask` is not bool or the distribution is not over
            discrete choices.
    """
    if not dist.choices:
        raise ValueError(f"Only discrete actions can be masked, got {dist}.")
    if mask.shape[-1:] != (sum(dist.choices),) or mask.dtype != np.bool_:
        raise ValueError(
            f"A bool mask of shape (..., {sum(dist.choices)}) is needed, got {mask.shape} "
            f"{mask.dtype}."
        )
    starts = np.cumsum([0, *dist.choices[:-1]])
    return np.asarray(~np.logical_or.reduceat(mask, starts, axis=-1).all(axis=-1))
