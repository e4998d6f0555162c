"""What an action is worth beside the others that the agent might have taken."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape
from rllib_hetero.functional.masks import mask_logits


def action_probabilities(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Probabilities of a discrete choice; those of forbidden actions are exactly 0.

    Args:
        logits: [..., p].
        mask: [..., p] bool, True = allowed; None for all.

    Returns:
        [..., p]. Where nothing is allowed, all are as likely.

    Raises:
        ValueError: If shapes differ or `mask` is not bool.
    """
    return (logits if mask is None else mask_logits(logits, mask)).softmax(-1)


def expected_value(values: Tensor, probabilities: Tensor) -> Tensor:
    """The baseline of an agent: what its policy may expect while the others' actions stay.

        B(o, a_-i) = sum_b pi_i(b | o_i) Q_i(o, (b, a_-i))

    Args:
        values: [..., p] Q of all own actions. Not read where the probability is 0: it may be NaN.
        probabilities: [..., p].

    Returns:
        [...] B.

    Raises:
        ValueError: If shapes differ.

    Reference:
        Foerster et al., "Counterfactual Multi-Agent Policy Gradients", AAAI 2018, eq. 4.
    """
    same_shape(values=values, probabilities=probabilities)
    return torch.where(probabilities > 0, probabilities * values, 0.0).sum(-1)


@torch.no_grad()
def counterfactual_advantage(values: Tensor, probabilities: Tensor, actions: Tensor) -> Tensor:
    """How much better the agent's action is than what its policy does on average.

        A_i(o, a) = Q_i(o, a) - sum_b pi_i(b | o_i) Q_i(o, (b, a_-i))

    Its mean over the agent's own policy is 0, so that it is no bias to subtract it.

    Args:
        values: [..., p] Q_i of all own actions, the others' being those that were taken.
        probabilities: [..., p] pi_i; 0 for forbidden actions, whose values are not read.
        actions: [...] int64, the agent's own.

    Returns:
        [...] A_i, without gradient.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        Foerster et al., AAAI 2018, eq. 4; Iqbal and Sha, ICML 2019, eq. 9.
    """
    if actions.shape != values.shape[:-1]:
        raise ValueError(
            f"Actions must have shape {tuple(values.shape[:-1])}, got {tuple(actions.shape)}."
        )
    taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return taken - expected_value(values, probabilities)
