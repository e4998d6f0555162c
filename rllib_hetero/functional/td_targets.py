"""Temporal-difference learning of action values: the targets, and the loss against them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from rllib_hetero.functional._shapes import same_shape
from rllib_hetero.functional.masks import mask_logits


@torch.no_grad()
def td_target(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """The value to learn: the rewards of the steps walked, and what is expected after them.

        y = r_t + gamma r_{t+1} + .. + gamma^{m-1} r_{t+m-1} + gamma^m V'

    Args:
        rewards: [...] discounted sum of the m >= 1 rewards.
        discounts: [...] gamma^m; 0 where the walk ended by termination. A truncated one has its
            discount, and the value of the true final state.
        next_values: [...] V', the value where the walk ended. Not read where the discount is 0:
            it may be NaN.

    Returns:
        [...] y, without gradient.

    Raises:
        ValueError: If shapes differ.

    Reference:
        HARL Algorithms 6 to 8 (m = 1); m > 1 as in their experiments.
    """
    same_shape(rewards=rewards, discounts=discounts, next_values=next_values)
    return torch.where(discounts != 0, rewards + discounts * next_values, rewards)


def smallest(values: Tensor) -> Tensor:
    """Clipped double Q: the value that all critics grant.

        min_j Q_j

    Args:
        values: [K, ...] of K critics.

    Returns:
        [...] values. The gradient goes to the critic whose value it is, in parts if they tie.

    Reference:
        HARL Algorithm 7; Fujimoto et al., "Addressing Function Approximation Error in
        Actor-Critic Methods", ICML 2018.
    """
    return values[0] if len(values) == 1 else values.amin(0)


def soft_value(values: Tensor, entropies: Tensor, alphas: Tensor | float) -> Tensor:
    """Value under the maximum-entropy objective of a team.

        V = Q + sum_i alpha_i H_i

    Args:
        values: [...] Q of an action that all agents have drawn.
        entropies: [..., n] of each agent's policy there: exact, or -log pi of what was drawn. 0
            for an agent that is not alive.
        alphas: [n] temperatures, or one for all.

    Returns:
        [...] V.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        Liu et al., "Maximum Entropy Heterogeneous-Agent Reinforcement Learning", ICLR 2024.
    """
    if entropies.shape[:-1] != values.shape or entropies.ndim == 0:
        raise ValueError(
            f"Entropies must have shape {tuple(values.shape)} and an axis of agents behind, got "
            f"{tuple(entropies.shape)}."
        )
    if isinstance(alphas, Tensor) and alphas.shape not in ((), entropies.shape[-1:]):
        raise ValueError(
            f"One temperature, or {entropies.shape[-1]}, are needed, got {tuple(alphas.shape)}."
        )
    return values + (alphas * entropies).sum(-1)


def best_value(values: Tensor, chosen_by: Tensor, mask: Tensor | None = None) -> Tensor:
    """The value of the action that looks best, which another network may judge.

        Q(argmax_a Q_choosing(a)),   a allowed

    With the online network choosing and its target valuing this is double Q-learning; with one
    network for both it is the maximum.

    Args:
        values: [..., p] Q of each action.
        chosen_by: [..., p] Q_choosing.
        mask: [..., p] bool, True = allowed; None for all. Values of forbidden actions are not
            read. Where none is allowed, the first one is taken.

    Returns:
        [...] values.

    Raises:
        ValueError: If shapes differ or `mask` is not bool.

    Reference:
        van Hasselt et al., "Deep Reinforcement Learning with Double Q-learning", AAAI 2016.
    """
    same_shape(values=values, chosen_by=chosen_by)
    if mask is not None:
        chosen_by = mask_logits(chosen_by, mask)
    return values.gather(-1, chosen_by.argmax(-1, keepdim=True)).squeeze(-1)


@torch.no_grad()
def td_lambda_targets(
    rewards: Tensor,
    next_values: Tensor,
    discounts: Tensor,
    filled: Tensor,
    *,
    lambda_: float,
) -> Tensor:
    """TD(lambda) targets of sequences, each a piece of one episode.

        y_t = r_t + d_t ((1 - lambda) V'_t + lambda y_{t+1})    within the piece
        y_t = r_t + d_t V'_t                                    at its last step

    The last step is the last that is filled, not the last of the array: nothing is taken from
    the padding behind it. (Codes in public start the recursion at the array's end, so that an
    episode which was cut earlier bootstraps from a padded step.) It bootstraps by its own next
    value, which for a truncated episode is that of the true final state.

    Args:
        rewards: [B, L] or, with agents or critics behind, [B, L, ...].
        next_values: V'_t, the value of the state after step t; of the shape of `rewards`.
        discounts: d_t, [B, L] or of the shape of `rewards`: gamma, or 0 where step t terminated.
            The next value is not read there: it may be NaN.
        filled: [B, L] bool, True for the piece's steps, which come first. What is behind them is
            not read.
        lambda_: 0 is one-step TD, 1 the return up to the last step and its bootstrap.

    Returns:
        Targets of the shape of `rewards`, without gradient; 0 where not filled.

    Raises:
        ValueError: If shapes do not fit or `filled` is not bool.

    Reference:
        Sutton and Barto, "Reinforcement Learning", 2nd edition, eq. 12.3, recursively.
    """
    same_shape(rank=2, filled=filled)
    same_shape(rewards=rewards, next_values=next_values)
    if discounts.shape not in (filled.shape, rewards.shape):
        raise ValueError(
            f"Discounts must have the shape of `filled`, {tuple(filled.shape)}, or of the rewards, "
            f"got {tuple(discounts.shape)}."
        )
    if rewards.shape[:2] != filled.shape:
        raise ValueError(
            f"Rewards must begin with the axes of `filled`, {tuple(filled.shape)}, got "
            f"{tuple(rewards.shape)}."
        )
    if filled.dtype != torch.bool:
        raise ValueError(f"`filled` must be bool, got {filled.dtype}.")
    behind = (1,) * (rewards.ndim - 2)
    goes_on = torch.cat([filled[:, 1:], torch.zeros_like(filled[:, :1])], dim=1)
    if discounts.ndim == 2:
        discounts = discounts.reshape(*discounts.shape, *behind)
    goes_on, filled = (x.reshape(*x.shape, *behind) for x in (goes_on, filled))
    decay = torch.where(goes_on, lambda_ * discounts, 0.0)
    bootstrap = torch.where(discounts != 0, (discounts - decay) * next_values, 0.0)
    targets = torch.where(filled, rewards + bootstrap, 0.0)
    for t in range(targets.shape[1] - 2, -1, -1):
        targets[:, t] += decay[:, t] * targets[:, t + 1]
    return targets


def td_loss(values: Tensor, targets: Tensor, huber_delta: float | None = None) -> Tensor:
    """Regression loss of action values.

        e^2 if |e| <= delta else delta (2 |e| - delta),   e = Q - y

    Within delta this is the papers' squared error; beyond, the gradient stays at 2 delta (it is
    twice what is known as Huber's loss).

    Args:
        values: [...] Q, the predictions.
        targets: [...] y.
        huber_delta: delta > 0; None for the squared error everywhere.

    Returns:
        [...] loss, to be minimised.

    Raises:
        ValueError: If shapes differ or `huber_delta` is not positive.

    Reference:
        The critics' losses of HARL Algorithms 6 to 8.
    """
    same_shape(values=values, targets=targets)
    if huber_delta is None:
        return (values - targets).square()
    if huber_delta <= 0:
        raise ValueError(f"`huber_delta` must be positive or None, got {huber_delta}.")
    return 2.0 * huber_loss(values, targets, reduction="none", delta=huber_delta)
