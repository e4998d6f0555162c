"""The factor by which an agent's objective accounts for the agents updated before it."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape
from rllib_hetero.functional.overflow import finite, finite_exp


def policy_ratio(logp_new: Tensor, logp_old: Tensor) -> Tensor:
    """Probability ratio of the actions taken, new policy over old.

        r = exp(log pi_new(a) - log pi_old(a))

    What is more than the largest number is that number, and so is its slope: on the flat side of
    a clip, or at an advantage of 0, the product with it is 0 and not NaN.

    Args:
        logp_new: [...] log-probability of the whole action under the new policy.
        logp_old: [...] the same under the policy that drew the action.

    Returns:
        [...] ratio, differentiable in both.

    Raises:
        ValueError: If shapes differ.
    """
    same_shape(logp_new=logp_new, logp_old=logp_old)
    return finite_exp(logp_new - logp_old)


def fold(correction: Tensor, logp_new: Tensor, logp_old: Tensor, active: Tensor) -> Tensor:
    """Folds the update of agent i_m into the correction that agent i_{m+1} is given.

        M_{m+1} = M_m * pi_new^{i_m}(a) / pi_old^{i_m}(a)    where agent i_m was acting
        M_{m+1} = M_m                                        elsewhere: its ratio is 1

    The first agent's correction is all ones. The advantage is kept apart: the paper's M^{i_1:m}
    is this correction times A, which the surrogates multiply. The later agents' objectives hold
    it constant: call this without gradient.

    Args:
        correction: [...] M_m >= 0.
        logp_new: [...] log-probability of agent i_m's action under its updated policy.
        logp_old: [...] the same under the policy that drew it.
        active: [...] bool, where agent i_m was acting. Elsewhere the log-probabilities are not
            read: they may be NaN.

    Returns:
        [...] M_{m+1} >= 0, at most the largest number.

    Raises:
        ValueError: If shapes differ or `active` is not bool.

    Reference:
        HARL Algorithm 4, last line of the loop over agents; eq. 10.
    """
    same_shape(correction=correction, logp_new=logp_new, logp_old=logp_old, active=active)
    if active.dtype != torch.bool:
        raise ValueError(f"`active` must be bool, got {active.dtype}.")
    return torch.where(active, finite(correction * policy_ratio(logp_new, logp_old)), correction)
