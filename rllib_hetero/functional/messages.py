"""Messages: what an agent's action looks like to the agents that act after it.

A message is a vector that a policy can read and a gradient can pass: the raw components of a Box
action, one-hots of a discrete one. `encode` is numpy: it is called once per environment step, on
a few rows; `encode_tensor` is for whole batches. `reparameterized` is the same vector as a
function of the policy that took the action, through which the later agents' feedback reaches that
policy.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape
from rllib_hetero.functional.distributions import Distribution
from rllib_hetero.functional.mixed import Mixed
from rllib_hetero.functional.stochastic import Categorical, DiagGaussian, MultiCategorical
from rllib_hetero.functional.straight_through import straight_through


def message_size(dist: Distribution) -> int:
    """Width of a message.

    Args:
        dist: The distribution of the actions.

    Returns:
        k of a Box, n of a Discrete, sum(nvec) of a MultiDiscrete, sum(nvec) + k of both.
    """
    if isinstance(dist, Mixed):
        return message_size(dist.of_choices) + message_size(dist.of_numbers)
    return sum(dist.choices) or math.prod(dist.action_shape)


def encode(dist: Distribution, actions: np.ndarray) -> np.ndarray:
    """The messages of given actions.

    Args:
        dist: The distribution of the actions.
        actions: [..., *action_shape] actions.

    Returns:
        [..., w] float32, w the `message_size`: the components of a Box action (possibly the same
        memory), else the one-hots of all components, concatenated.

    Raises:
        ValueError: If the shape does not fit.

    Example:
        >>> encode(MultiCategorical((2, 3)), np.array([1, 0])).tolist()
        [0.0, 1.0, 1.0, 0.0, 0.0]
    """
    if dist.action_shape and actions.shape[-1:] != dist.action_shape:
        raise ValueError(
            f"Actions must have shape (..., *{dist.action_shape}), got {actions.shape}."
        )
    if isinstance(dist, Mixed):
        m = len(dist.choices)
        chosen = encode(dist.of_choices, actions[..., :m])
        return np.concatenate([chosen, encode(dist.of_numbers, actions[..., m:])], -1)
    if not dist.choices:
        return actions.astype(np.float32, copy=False)
    component, choice = _layout(dist.choices)
    columns = actions if dist.action_shape else actions[..., None]
    return (columns.take(component, axis=-1) == choice).astype(np.float32)


def encode_tensor(dist: Distribution, actions: Tensor) -> Tensor:
    """`encode` in torch, for the learners.

    Args:
        dist: The distribution of the actions.
        actions: [..., *action_shape] actions.

    Returns:
        [..., w] float32 messages, w the `message_size`.

    Raises:
        ValueError: If the shape does not fit.
    """
    if dist.action_shape and actions.shape[-1:] != dist.action_shape:
        raise ValueError(
            f"Actions must have shape (..., *{dist.action_shape}), got {tuple(actions.shape)}."
        )
    if isinstance(dist, Mixed):
        chosen, numbers = dist.split(actions)
        parts = [encode_tensor(dist.of_choices, chosen), encode_tensor(dist.of_numbers, numbers)]
        return torch.cat(parts, dim=-1)
    if not dist.choices:
        return actions.float()
    columns = actions if dist.action_shape else actions.unsqueeze(-1)
    one_hots = [
        columns[..., j : j + 1] == torch.arange(n, device=actions.device)
        for j, n in enumerate(dist.choices)
    ]
    return torch.cat(one_hots, dim=-1).float()


def reparameterized(
    dist: Distribution,
    inputs: Tensor,
    actions: Tensor,
    exponentials: Tensor | None,
    temperature: float,
) -> Tensor:
    """The messages of given actions, as functions of the policy's parameters.

        a + g(theta, eps) - sg(g(theta, eps)),    sg = without gradient

    The value is that of `encode`, exactly. The gradient is that of the reparameterised action g
    at a noise eps that gives this action under the parameters as they are now:

        Box:       g = mean + std * eps              eps = sg((a - mean) / std)
        discrete:  g = softmax((log p + eps) / T)    eps from `posterior_gumbel`

    For MultiDiscrete this is done component by component.

    The noise that drew the action belongs to the old parameters; under new ones it would give
    another action. Here the noise is made to fit the action: with the importance weights
    pi_new / pi_old on the actions, action and noise are distributed as a fresh draw from the new
    policy. The expectation is then that of the straight-through Gumbel-softmax gradient, an
    estimate of a derivative that a discrete action does not have: the message jumps, softmax does
    not. A small T makes it steep and the gradient noisy, a large T makes it smooth and biased.

    Args:
        dist: The distribution of the actions.
        inputs: [..., size] parameters. A logit of -inf (or of the dtype's lowest value) is a
            choice of probability 0 and gets gradient 0.
        actions: [..., *action_shape] actions taken.
        exponentials: [..., noise_size] fresh draws of the standard exponential distribution
            (`rng.standard_exponential`), independent of the actions. Box: not read, may be None.
        temperature: T > 0. Box: not used.

    Returns:
        [..., w] messages in the dtype of `inputs`, w the `message_size`.

    Raises:
        ValueError: If shapes do not fit, `exponentials` is missing, `temperature` is not positive
            or the distribution is none of the family "stochastic".

    Reference:
        Li et al., "Backpropagation Through Agents", AAAI 2024, g(theta, eps) of eq. 5; Jang et
        al., "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017, section 2.2.
    """
    if inputs.shape[-1:] != (dist.size,):
        raise ValueError(f"Inputs must have shape (..., {dist.size}), got {tuple(inputs.shape)}.")
    if actions.shape != inputs.shape[:-1] + dist.action_shape:
        raise ValueError(
            f"Actions must have shape (..., *{dist.action_shape}) on inputs of shape "
            f"{tuple(inputs.shape)}, got {tuple(actions.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}.")
    if isinstance(dist, Mixed):
        p, m = dist.of_choices.size, len(dist.choices)
        drawn = None if exponentials is None else exponentials[..., :p]
        both = [
            reparameterized(dist.of_choices, inputs[..., :p], actions[..., :m], drawn, temperature),
            reparameterized(dist.of_numbers, inputs[..., p:], actions[..., m:], None, temperature),
        ]
        return torch.cat(both, dim=-1)
    if isinstance(dist, DiagGaussian):
        mean, log_std = inputs.chunk(2, dim=-1)
        std, taken = log_std.exp(), actions.to(inputs.dtype)
        return straight_through(taken, mean + std * ((taken - mean) / std).detach())

    if not isinstance(dist, (Categorical, MultiCategorical)):
        raise ValueError(f"No policy gradient passes the actions of {dist}.")
    nvec = list(dist.choices)
    if exponentials is None or exponentials.shape != inputs.shape:
        got = None if exponentials is None else tuple(exponentials.shape)
        raise ValueError(
            f"Exponentials must have the shape of the inputs, {tuple(inputs.shape)}, got {got}."
        )
    columns = actions if dist.action_shape else actions.unsqueeze(-1)
    parts = zip(
        inputs.split(nvec, dim=-1),
        columns.unbind(-1),
        exponentials.split(nvec, dim=-1),
        strict=True,
    )
    return torch.cat([_gumbel_softmax(x, a, e, temperature) for x, a, e in parts], dim=-1)


@torch.no_grad()
def posterior_gumbel(log_probs: Tensor, actions: Tensor, exponentials: Tensor) -> Tensor:
    """Gumbel noise, given which action it has picked.

        v_k = -log E_k                   k the action taken
        v_j = -log(E_j / p_j + E_k)      j another
        noise = v - log p

    Standard Gumbel noise picks the action argmax_j v_j, v_j = log p_j + noise_j, with
    probability p. The maximum v_k is standard Gumbel and independent of which action it belongs
    to; given both, the other v_j are independent Gumbels of location log p_j, truncated to lie
    below it: P(v_j <= x) = exp(-p_j * (exp(-x) - exp(-v_k))) for x <= v_k. The lines above draw
    from these two by inversion. So for an action drawn from p, the noise is standard Gumbel.

    Args:
        log_probs: [..., n] log p. Entries so low that p is 0 are fine, if finite.
        actions: [...] index k of the action taken.
        exponentials: [..., n] E, independent draws of the standard exponential distribution.

    Returns:
        [..., n] noise, without gradient, in the dtype of `log_probs`.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        Maddison et al., "A* Sampling", NeurIPS 2014 (the two distributions); Paulus et al.,
        "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator", ICLR 2021.
    """
    same_shape(log_probs=log_probs, exponentials=exponentials)
    if actions.shape != log_probs.shape[:-1]:
        raise ValueError(
            f"Actions must have shape {tuple(log_probs.shape[:-1])}, got {tuple(actions.shape)}."
        )
    k = actions.long().unsqueeze(-1)
    # A draw may be exactly 0, and inf - inf would be NaN.
    e = exponentials.to(log_probs.dtype).clamp(min=torch.finfo(log_probs.dtype).tiny)
    e_k = e.gather(-1, k)
    # v_j - log p_j, multiplied out: no division by a probability of 0.
    others = -torch.log(e + log_probs.exp() * e_k)
    return others.scatter(-1, k, -torch.log(e_k) - log_probs.gather(-1, k))


def _gumbel_softmax(
    logits: Tensor, actions: Tensor, exponentials: Tensor, temperature: float
) -> Tensor:
    # Clamped: -inf plus the noise of an action taken in spite of its mask would be NaN.
    log_p = logits.log_softmax(-1).clamp(min=torch.finfo(logits.dtype).min)
    noise = posterior_gumbel(log_p, actions, exponentials)
    one_hot = torch.zeros_like(log_p).scatter(-1, actions.long().unsqueeze(-1), 1.0)
    return straight_through(one_hot, ((log_p + noise) / temperature).softmax(-1))


@lru_cache(maxsize=64)
def _layout(nvec: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    # For each entry of the concatenated one-hots: its component, and which choice it stands for.
    component = np.repeat(np.arange(len(nvec)), nvec)
    return component, np.concatenate([np.arange(n) for n in nvec])
