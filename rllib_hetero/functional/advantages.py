"""Advantages of a team: generalised advantage estimation, and normalisation by shared sums."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape


@torch.no_grad()
def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    cut: Tensor,
    *,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """Generalised advantage estimates of packed columns, each holding episodes one after another.

        delta_t = r_t + gamma * V'_t - V_t
        A_t     = delta_t + gamma * lambda * (1 - cut_t) * A_{t+1},    A_T = 0

    The value to bootstrap from, V'_t, is an argument of its own: a terminated step (V'_t = 0)
    and a truncated one (V'_t = V of the true final state) then need no rule here. Both cut the
    trace, so that nothing of the next episode in the column leaks in.

    Args:
        rewards: [T, C] team rewards.
        values: [T, C] V(s_t).
        next_values: [T, C] V(s_{t+1}) within an episode; V(final state) where the episode was
            truncated or the fragment ends; 0 where it terminated.
        cut: [T, C] bool, True where the trace stops after t: terminated, truncated or last row.
        gamma: Discount factor.
        lambda_: Decay of the trace: 0 is one-step TD, 1 is the Monte-Carlo return minus V.

    Returns:
        [T, C] float32 advantages, without gradient. The value targets are these plus `values`.

    Raises:
        ValueError: If shapes differ, the rank is not 2 or `cut` is not bool.

    Reference:
        Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
        Estimation", ICLR 2016, eq. 16; the estimator of A-hat in HARL eq. 10.
    """
    same_shape(rank=2, rewards=rewards, values=values, next_values=next_values, cut=cut)
    if cut.dtype != torch.bool:
        raise ValueError(f"`cut` must be bool, got {cut.dtype}.")
    advantages = rewards.float() + gamma * next_values.float() - values.float()
    decay = gamma * lambda_ * (~cut).float()
    for t in range(len(advantages) - 2, -1, -1):
        advantages[t] += decay[t] * advantages[t + 1]
    return advantages


@torch.no_grad()
def moments(x: Tensor, weights: Tensor) -> Tensor:
    """The three sums that a weighted mean and variance are made of.

        (sum_i w_i,  sum_i w_i x_i,  sum_i w_i x_i^2)

    Sums add up: those of several learners are all-reduced before `standardize` reads them.

    Args:
        x: [...] data.
        weights: [...] weights >= 0, or a bool mask. Entries of weight 0 are not read: they may
            be NaN.

    Returns:
        [3] float64 sums.

    Raises:
        ValueError: If shapes differ.
    """
    same_shape(x=x, weights=weights)
    w = weights.double()
    x = torch.where(w > 0, x.double(), 0.0)
    return torch.stack([w.sum(), (w * x).sum(), (w * x * x).sum()])


def standardize(x: Tensor, moments: Tensor, eps: float = 1e-5) -> Tensor:
    """Shifts and scales by the mean and standard deviation that the moments hold.

        (x - mean) / (std + eps),   mean = m_1 / m_0,   std^2 = m_2 / m_0 - mean^2

    Args:
        x: [...] data.
        moments: [3] sums from `moments`, possibly over more data than `x`.
        eps: Added to the (population) standard deviation.

    Returns:
        [...] standardised data in the dtype of `x`. Zeros where the total weight m_0 is 0.

    Raises:
        ValueError: If `moments` is not of shape [3].
    """
    if moments.shape != (3,):
        raise ValueError(f"`moments` must have shape (3,), got {tuple(moments.shape)}.")
    total, first, second = moments.double().unbind()
    safe_total = torch.where(total > 0, total, 1.0)
    mean = first / safe_total
    std = (second / safe_total - mean**2).clamp(min=0.0).sqrt()
    return torch.where(total > 0, (x.double() - mean) / (std + eps), 0.0).to(x.dtype)


def normalize(x: Tensor, weights: Tensor, *, eps: float = 1e-5) -> Tensor:
    """`standardize` by the data's own `moments`: the single-learner case.

        (x - mean_w(x)) / (std_w(x) + eps)

    Args:
        x: [...] data.
        weights: [...] weights >= 0, or a bool mask.
        eps: Added to the (population) standard deviation.

    Returns:
        [...] data of weighted mean 0 and standard deviation 1, in the dtype of `x`. Entries of
        weight 0 are shifted and scaled with the others.

    Raises:
        ValueError: If shapes differ.
    """
    return standardize(x, moments(x, weights), eps)
