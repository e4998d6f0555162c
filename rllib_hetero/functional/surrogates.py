"""Surrogate objectives of one agent, and the means and diagnostics taken of them."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape


def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    clip_param: float,
    correction: Tensor | None = None,
) -> Tensor:
    """PPO's clipped objective, with the correction for the agents that were updated before.

        M * min(r * A, clip(r, 1 - eps, 1 + eps) * A)

    The paper multiplies inside: its M^{i_1:m} is the product M * A. As M >= 0 does not change
    which of the two terms is smaller, multiplying after the minimum is the same.

    Args:
        ratio: [...] r = pi_new(a) / pi_old(a) of this agent's whole action.
        advantages: [...] A, the team's advantage.
        clip_param: eps > 0.
        correction: [...] M >= 0 from `fold`, without gradient. None is 1: MAPPO, or the first
            agent of the order.

    Returns:
        [...] objective, to be maximised.

    Raises:
        ValueError: If shapes differ or `clip_param` is not positive.

    Reference:
        HARL eq. 11; Schulman et al., "Proximal Policy Optimization Algorithms", 2017, eq. 7.
    """
    same_shape(ratio=ratio, advantages=advantages)
    if clip_param <= 0:
        raise ValueError(f"`clip_param` must be positive, got {clip_param}.")
    clipped = ratio.clamp(1.0 - clip_param, 1.0 + clip_param)
    return _correct(torch.minimum(ratio * advantages, clipped * advantages), correction)


def linear_surrogate(ratio: Tensor, advantages: Tensor, correction: Tensor | None = None) -> Tensor:
    """The unclipped objective: the importance-sampled team advantage.

        M * r * A

    HARL eq. 10 has r - 1 for r: a constant less, the same gradient.

    Args:
        ratio: [...] r = pi_new(a) / pi_old(a) of this agent's whole action.
        advantages: [...] A, the team's advantage.
        correction: [...] M >= 0 from `fold`, without gradient. None is 1.

    Returns:
        [...] objective, to be maximised.

    Raises:
        ValueError: If shapes differ.

    Reference:
        HARL eq. 9 and 10 (HATRPO, and HAA2C in section 3.5).
    """
    same_shape(ratio=ratio, advantages=advantages)
    return _correct(ratio * advantages, correction)


def masked_mean(x: Tensor, weights: Tensor, total: Tensor | float | None = None) -> Tensor:
    """Weighted mean.

        sum_i w_i x_i / total

    Args:
        x: [...] data.
        weights: [...] weights >= 0, or a bool mask. Entries of weight 0 are not read: they may
            be NaN.
        total: What to divide by; None for the sum of `weights`. With the sum over all learners
            (or minibatches), their results add up to the mean over all data.

    Returns:
        Scalar mean in the dtype of `x`; 0 where the total is 0.

    Raises:
        ValueError: If shapes differ.
    """
    same_shape(x=x, weights=weights)
    w = weights.to(x.dtype)
    denominator = (
        w.sum() if total is None else torch.as_tensor(total, dtype=x.dtype, device=x.device)
    )
    weighted = (w * torch.where(w > 0, x, 0.0)).sum()
    return weighted / torch.where(denominator > 0, denominator, 1.0)


@torch.no_grad()
def clip_fraction(
    ratio: Tensor, clip_param: float, weights: Tensor, total: Tensor | float | None = None
) -> Tensor:
    """Share of samples whose ratio lies outside the clipping interval.

        mean_w 1[|r - 1| > eps]

    Args:
        ratio: [...] pi_new(a) / pi_old(a).
        clip_param: eps > 0.
        weights: [...] weights >= 0, or a bool mask.
        total: As in `masked_mean`.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError: If shapes differ.
    """
    return masked_mean(((ratio - 1.0).abs() > clip_param).to(ratio.dtype), weights, total)


@torch.no_grad()
def approx_kl(log_ratio: Tensor, weights: Tensor, total: Tensor | float | None = None) -> Tensor:
    """Estimate of KL(old || new) from actions drawn from old: unbiased and never negative.

        mean_w[(r - 1) - log r]

    Args:
        log_ratio: [...] log r = log pi_new(a) - log pi_old(a).
        weights: [...] weights >= 0, or a bool mask.
        total: As in `masked_mean`.

    Returns:
        Scalar estimate.

    Raises:
        ValueError: If shapes differ.

    Reference:
        Schulman, "Approximating KL Divergence", 2020 (the estimator k3).
    """
    return masked_mean(torch.expm1(log_ratio) - log_ratio, weights, total)


def _correct(objective: Tensor, correction: Tensor | None) -> Tensor:
    if correction is None:
        return objective
    same_shape(objective=objective, correction=correction)
    return correction * objective  # HARL eq. 10: M^{i_1:m} = (ratios of i_1..i_{m-1}) * A.
