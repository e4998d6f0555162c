"""Discrete actions that a gradient can pass: straight-through one-hots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape
from rllib_hetero.functional.masks import mask_logits


def straight_through(value: Tensor, path: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another.

        value + path - sg(path),    sg = without gradient

    Args:
        value: [...] what it is, exactly.
        path: [...] what its gradient is.

    Returns:
        [...] sum.

    Raises:
        ValueError: If shapes differ.
    """
    same_shape(value=value, path=path)
    # In this order the difference is exactly 0; (value + path) - path would be rounded.
    return value + (path - path.detach())


def gumbel_one_hots(
    logits: Tensor,
    nvec: Sequence[int],
    gumbels: Tensor | None,
    temperature: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Draws discrete actions, as one-hots with the gradient of a softmax.

        value:     one_hot(argmax(x + g))
        gradient:  that of softmax((x + g) / T)

    For each component on its own. With standard Gumbel noise the value is a draw from the policy
    whose logits are x. The mask comes before the noise: a forbidden choice is never drawn, and
    its logit gets gradient 0. The gradient is a biased estimate, as a discrete action has none; a
    small T makes it steep, a large T smooth and more biased.

    Args:
        logits: [..., p] x, those of all components, concatenated.
        nvec: Number of choices of each component, p in sum: `Distribution.choices`.
        gumbels: [..., p] g; None for 0: the likeliest action.
        temperature: T > 0.
        mask: [..., p] bool, True = allowed; None for all. Logits of forbidden choices are not
            read. A component without any allowed choice takes its first, whatever the noise.

    Returns:
        [..., p] one-hots of all components, concatenated, in the dtype of `logits`.

    Raises:
        ValueError: If shapes do not fit, `mask` is not bool or `temperature` is not positive.

    Reference:
        Jang et al., "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017, section 2.2.
    """
    if logits.shape[-1:] != (sum(nvec),):
        raise ValueError(f"Logits must have shape (..., {sum(nvec)}), got {tuple(logits.shape)}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}.")
    if mask is not None:
        logits = mask_logits(logits, mask)
    if gumbels is not None:
        same_shape(logits=logits, gumbels=gumbels)
        logits = logits + gumbels
    return torch.cat([_one_hots(x, temperature) for x in logits.split(list(nvec), -1)], dim=-1)


def _one_hots(scores: Tensor, temperature: float) -> Tensor:
    # Less the largest: where all are the dtype's lowest number, a T < 1 would make them -inf.
    scores = scores - scores.detach().amax(-1, keepdim=True)
    value = torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)
    return straight_through(value, (scores / temperature).softmax(-1))
