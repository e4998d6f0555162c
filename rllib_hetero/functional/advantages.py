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
    ratios: Tensor | None = None,
) -> Tensor:
    """Generalised advantage estimates of packed columns, each holding episodes one after another.

        delta_t = r_t + gamma * V'_t - V_t
        A_t     = delta_t + gamma * lambda * (1 - cut_t) * c_{t+1} * A_{t+1},    A_T = 0
        c_t     = 1, or with `ratios` min(1, rho_t)

    The value to bootstrap from, V'_t, is an argument of its own: a terminated step (V'_t = 0)
    and a truncated one (V'_t = V of the true final state) then need no rule here. Both cut the
    trace, so that nothing of the next episode in the column leaks in.

    With `ratios` this is A2PO's preceding-agent off-policy correction (PreOPC). Of the team of
    which some agents are updated, the later steps of a trajectory are off-policy; each counts by
    as much as the updated team would still do what was done, and by 1 at most. Written out:

        A_t = delta_t + sum_{k >= 1} gamma^k (prod_{j=1..k} lambda min(1, rho_{t+j})) delta_{t+k}

    The step's own ratio rho_t is not in A_t: the surrogate multiplies it. lambda enters once per
    step. (The authors' published code multiplies it in twice, that is lambda^2, and builds a
    [T, T] tensor per column; the recursion needs linear time and memory.)

    Args:
        rewards: [T, C] team rewards.
        values: [T, C] V(s_t), or [T, C, K] of K value functions.
        next_values: V(s_{t+1}) within an episode; V(final state) where the episode was truncated
            or the fragment ends; 0 where it terminated. Of the shape of `values`.
        cut: [T, C] bool, True where the trace stops after t: terminated, truncated or last row.
        gamma: Discount factor.
        lambda_: Decay of the trace: 0 is one-step TD, 1 is the Monte-Carlo return minus V.
        ratios: [T, C] rho_t >= 0, probability of the joint action by the agents updated so far
            over that by the agents as they sampled: `fold`'s correction. None is 1 everywhere.
            Not read at the first row, nor at the first step of an episode.

    Returns:
        Float32 advantages of the shape of `values`, without gradient. The value targets are
        these plus `values`.

    Raises:
        ValueError: If shapes do not fit or `cut` is not bool.

    Reference:
        Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
        Estimation", ICLR 2016, eq. 16; the estimator of A-hat in HARL eq. 10. PreOPC: Wang et
        al., "Order Matters: Agent-by-agent Policy Optimization", ICLR 2023.
    """
    same_shape(rank=2, rewards=rewards, cut=cut)
    same_shape(values=values, next_values=next_values)
    if values.ndim not in (2, 3) or values.shape[:2] != rewards.shape:
        raise ValueError(
            "Shapes of `values` must be those of `rewards`, with one more axis at most, got "
            f"{tuple(values.shape)} on {tuple(rewards.shape)}."
        )
    if cut.dtype != torch.bool:
        raise ValueError(f"`cut` must be bool, got {cut.dtype}.")
    decay = gamma * lambda_ * (~cut).float()
    if ratios is not None:
        same_shape(rewards=rewards, ratios=ratios)
        # Where cut, the next ratio is another episode's.
        following = ratios[1:].float().clamp(max=1.0).masked_fill(cut[:-1], 0.0)
        decay[:-1] *= following
    rewards = rewards.float()
    if values.ndim == 3:
        rewards, decay = rewards.unsqueeze(-1), decay.unsqueeze(-1)
    advantages = rewards + gamma * next_values.float() - values.float()
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
