"""Joint actions of a team with discrete actions: their numbers, and values read agent by agent.

Agents may have unequal numbers of actions n_i. Joint actions are numbered like the entries of an
array of shape (n_1, .., n_n), the last agent's action running fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rllib_hetero.functional.masks import mask_logits


def joint_index(actions: Tensor, nvec: Sequence[int]) -> Tensor:
    """The number of a joint action.

        sum_i a_i * prod_{j > i} n_j

    Args:
        actions: [..., n] int64.
        nvec: The n_i.

    Returns:
        [...] int64, below the product of the n_i.

    Raises:
        ValueError: If the shape does not fit.

    Example:
        >>> joint_index(torch.tensor([1, 0, 2]), (2, 2, 3)).item()
        8
    """
    if actions.shape[-1:] != (len(nvec),):
        raise ValueError(f"Actions must have shape (..., {len(nvec)}), got {tuple(actions.shape)}.")
    index = actions[..., 0]
    for i, n in enumerate(nvec[1:], start=1):
        index = index * n + actions[..., i]
    return index


def joint_actions(index: Tensor, nvec: Sequence[int]) -> Tensor:
    """The joint action of a number: the inverse of `joint_index`.

    Args:
        index: [...] int64.
        nvec: The n_i.

    Returns:
        [..., n] int64.
    """
    return torch.stack(torch.unravel_index(index, tuple(nvec)), dim=-1)


def agent_row(values: Tensor, agent: int, actions: Tensor, nvec: Sequence[int]) -> Tensor:
    """The values of all actions of one agent, the others' actions being given.

    Args:
        values: [..., N] of all joint actions.
        agent: Index i of the agent.
        actions: [..., n] int64 joint actions; the agent's own is not read.
        nvec: The n_i, N their product.

    Returns:
        [..., n_i].

    Raises:
        ValueError: If a shape does not fit.
    """
    size = math.prod(nvec)
    if values.shape != (*actions.shape[:-1], size):
        raise ValueError(
            f"Values must have shape (..., {size}) on actions of shape {tuple(actions.shape)}, got "
            f"{tuple(values.shape)}."
        )
    stride, n = math.prod(nvec[agent + 1 :]), nvec[agent]
    first = joint_index(actions, nvec) - stride * actions[..., agent]
    own = stride * torch.arange(n, device=actions.device)
    return values.gather(-1, first.unsqueeze(-1) + own)


class InTurn(NamedTuple):
    """What a critic says when agents choose one after another.

    Attributes:
        values: [B, n] the value of the agent's given action, on its turn.
        rows: For each agent in team order, [B, n_i] values of all of its actions, on its turn.
        best: [B, n] int64 the actions chosen.
    """

    values: Tensor
    rows: tuple[Tensor, ...]
    best: Tensor


@torch.no_grad()
def values_in_turn(
    row_of: Callable[[int, Tensor], Tensor],
    actions: Tensor,
    order: Sequence[int],
    masks: Sequence[Tensor | None] | None = None,
) -> InTurn:
    """Maximises a joint value agent by agent, and tells what every agent saw on its turn.

        y^{i_m}   = Q(s, a_*^{i_1:m-1}, a^{i_m}, a^{i_m+1:n})
        a_*^{i_m} = argmax_a Q(s, a_*^{i_1:m-1}, a, a^{i_m+1:n})

    Args:
        row_of: Maps agent i and joint actions [B, n] to Q of all of i's actions [B, n_i].
        actions: [B, n] int64 a. Those of the replay are the paper's; the authors' code starts
            from what each agent would do by itself.
        order: The agents i_1, .., i_n.
        masks: For each agent in team order [B, n_i] bool, True = allowed, or None; None where no
            agent has any. Forbidden actions are not chosen.

    Returns:
        y, what it was read from, and a_*.

    Raises:
        ValueError: If the order is not one of all agents.

    Reference:
        HARL Algorithm 8, the local targets.
    """
    n = actions.shape[-1]
    if sorted(order) != list(range(n)):
        raise ValueError(f"The order must be of all agents 0 to {n - 1}, got {list(order)}.")
    best, rows = actions.clone(), {}
    for i in order:
        row = rows[i] = row_of(i, best)
        mask = None if masks is None else masks[i]
        best[:, i] = (row if mask is None else mask_logits(row, mask)).argmax(-1)
    values = [rows[i].gather(-1, actions[:, i : i + 1]) for i in range(n)]
    return InTurn(torch.cat(values, dim=-1), tuple(rows[i] for i in range(n)), best)
