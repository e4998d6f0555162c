"""Importance ratios that are cut where they would grow without bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape


@torch.no_grad()
def truncated_ratio(log_probs: Tensor, log_probs_of: Tensor, most: float = 1.0) -> Tensor:
    """How much likelier one policy takes an action than another, at most `most`.

        min(epsilon, p / q)

    With p the policy and q the behaviour policy this is F2A2's rho, of an action from the replay;
    the other way round it is kappa, of an action drawn anew. It is the agent's own ratio, never a
    product over agents.

    Args:
        log_probs: [...] log p.
        log_probs_of: [...] log q.
        most: epsilon > 0; the paper's is 1.

    Returns:
        [...] ratios in [0, epsilon], without gradient. Where neither policy would take the action
        (both are at the lowest number), 1 or epsilon.

    Raises:
        ValueError: If shapes differ or epsilon is not positive.

    Reference:
        Li et al., "F2A2", JMLR 2023, Remark 4; Munos et al., "Safe and Efficient Off-Policy
        Reinforcement Learning", NIPS 2016.
    """
    same_shape(log_probs=log_probs, log_probs_of=log_probs_of)
    if not most > 0:
        raise ValueError(f"`most` must be positive, got {most}.")
    return (log_probs - log_probs_of).clamp(max=math.log(most)).exp()
