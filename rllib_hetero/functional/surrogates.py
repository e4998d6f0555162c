"""Surrogate objectives of one agent, and the means and diagnostics taken of them."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape
from rllib_hetero.functional.overflow import finite


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


def clipped_joint_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    clip_param: float,
    others: Tensor,
    others_clip: float,
) -> Tensor:
    """PPO's clipped objective on the ratio of several agents' joint action.

        l = r * clip(R, 1 - eps_R, 1 + eps_R)
        min(l * A, clip(l, 1 - eps, 1 + eps) * A)

    CoPPO: R is the product of all other agents' ratios, eps_R its outer and eps its inner
    clipping. A2PO: R is that of the agents updated before (their `fold`ed correction), A is the
    advantage corrected for them, eps = eps^i and eps_R = eps^i / 2.

    Unlike `clipped_surrogate`, the others' ratio counts against the clipping interval: what they
    have moved leaves this agent the less to move.

    Args:
        ratio: [...] r = pi_new(a) / pi_old(a) of this agent's whole action.
        advantages: [...] A.
        clip_param: eps > 0.
        others: [...] R >= 0, the product of the other agents' ratios, without gradient.
        others_clip: eps_R > 0.

    Returns:
        [...] objective, to be maximised.

    Raises:
        ValueError: If shapes differ, a clipping parameter is not positive or `others` requires
            a gradient.

    Reference:
        Wu et al., "Coordinated Proximal Policy Optimization", NeurIPS 2021; Wang et al., "Order
        Matters: Agent-by-agent Policy Optimization", ICLR 2023, the practical objective.
    """
    same_shape(ratio=ratio, advantages=advantages, others=others)
    for name, value in (("clip_param", clip_param), ("others_clip", others_clip)):
        if value <= 0:
            raise ValueError(f"`{name}` must be positive, got {value}.")
    if others.requires_grad:
        raise ValueError("`others` must carry no gradient: this is one agent's objective.")
    joint = finite(ratio * others.clamp(1.0 - others_clip, 1.0 + others_clip))
    clipped = joint.clamp(1.0 - clip_param, 1.0 + clip_param)
    return torch.minimum(joint * advantages, clipped * advantages)


def peer_surrogate(
    ratio: Tensor, advantages: Tensor, clip_param: float, feedback: Tensor, action: Tensor
) -> Tensor:
    """BPPO's peer term: how the agents that act later answer to a change of this agent's action.

        c * A * <grad_a M, a - sg(a)>,    sg = without gradient
        c = sg(r)                             where r * A <= clip(r, 1 - eps, 1 + eps) * A
        c = sg(clip(r, 1 - eps, 1 + eps))     elsewhere

    Its value is 0, only its gradient counts. Add it to the agent's own term, the
    `clipped_surrogate` whose correction M is the product of the later agents' ratios. The
    clipping bounds c, but unlike the own term's it does not end the gradient: eq. 6 has it so.

    The paper has <grad_a M, a> inside PPO's minimum. What that adds to the two sides, and so
    which of them is taken, depends on where the action's zero lies: a thrust in [0, 2] and the
    same in [-1, 1] would be trained differently. Without the value, PPO's own minimum chooses,
    and the gradient of the side it takes is that of eq. 6.

    Args:
        ratio: [...] r = pi_new(a) / pi_old(a) of this agent's whole action.
        advantages: [...] A, the team's advantage.
        clip_param: eps > 0.
        feedback: [..., w] grad_a M at the action taken, without gradient. M is the product of the
            later agents' ratios; only their numerators depend on a, the denominators are data.
        action: [..., w] this agent's message from `reparameterized`.

    Returns:
        [...] objective, to be maximised: zeros.

    Raises:
        ValueError: If shapes differ, `clip_param` is not positive or `feedback` requires a
            gradient.

    Reference:
        Li et al., "Backpropagation Through Agents", AAAI 2024, Corollary 1.1, eq. 6.
    """
    same_shape(ratio=ratio, advantages=advantages)
    same_shape(feedback=feedback, action=action)
    if action.shape[:-1] != ratio.shape:
        raise ValueError(
            f"`action` must have shape (*{tuple(ratio.shape)}, w), got {tuple(action.shape)}."
        )
    if clip_param <= 0:
        raise ValueError(f"`clip_param` must be positive, got {clip_param}.")
    if feedback.requires_grad:
        raise ValueError("`feedback` must carry no gradient: this is one agent's objective.")
    r = ratio.detach()
    clipped = r.clamp(1.0 - clip_param, 1.0 + clip_param)
    weight = torch.where(r * advantages <= clipped * advantages, r, clipped)
    return finite(weight * advantages) * (feedback * (action - action.detach())).sum(-1)


def adaptive_clip(clip_param: float, position: int, num_agents: int, coeff: float = 0.5) -> float:
    """Clipping parameter of the agent at a position of the update order.

        C(eps, k) = eps * c + eps * (1 - c) * k / n

    The early agents, on whose moves all later ones build, are held closer; the last has eps.

    Args:
        clip_param: eps > 0.
        position: k, counted from 1.
        num_agents: n.
        coeff: c in [0, 1]; 1 is eps for all.

    Returns:
        The agent's clipping parameter.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Wang et al., "Order Matters: Agent-by-agent Policy Optimization", ICLR 2023, adaptive
        clipping parameter.
    """
    if clip_param <= 0:
        raise ValueError(f"`clip_param` must be positive, got {clip_param}.")
    if not 1 <= position <= num_agents:
        raise ValueError(f"`position` must be in 1..{num_agents}, got {position}.")
    if not 0 <= coeff <= 1:
        raise ValueError(f"`coeff` must be in [0, 1], got {coeff}.")
    return clip_param * (coeff + (1.0 - coeff) * position / num_agents)


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
    # Finite: M may be 0 where the ratio is past all numbers.
    return correction * finite(objective)  # HARL eq. 10: M^{i_1:m} = (ratios of i_1..i_{m-1}) * A.
