"""The temperature of a maximum-entropy policy: how much entropy is wanted, and the loss for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor


def target_entropy(space: gym.Space, fraction: float) -> float:
    """The entropy that an agent's policy is held at.

        Box:       sum_k (-1 + log((high_k - low_k) / 2))
        discrete:  fraction * sum_j log n_j    over the components j

    For a Box within [-1, 1] this is -dim, the usual choice. A density has units: over a range
    half as wide, the same policy has log 2 less of entropy in each component, and so must have
    the target. For discrete actions log n is the entropy of the uniform policy. (The authors'
    code takes the log of the action's *shape*: 0 for a Discrete, so that its temperature falls
    without end.)

    Args:
        space: Box with finite bounds, Discrete or MultiDiscrete.
        fraction: Of the largest entropy, within [0, 1]. Box: not read.

    Returns:
        The target in nats.

    Raises:
        ValueError: If the space is of another kind, its bounds are not finite and apart, or the
            fraction is out of range.

    Reference:
        Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018, appendix D (-dim);
        Christodoulou, "Soft Actor-Critic for Discrete Action Settings", 2019 (the fraction).
    """
    if isinstance(space, Box):
        width = space.high.astype(np.float64) - space.low
        if not np.all(np.isfinite(width) & (width > 0)):
            raise ValueError(f"Bounds must be finite and apart, got {space}.")
        return float((np.log(width / 2.0) - 1.0).sum())
    if not isinstance(space, (Discrete, MultiDiscrete)):
        raise ValueError(f"A Box, a Discrete or a MultiDiscrete is needed, got {space}.")
    _check_fraction(fraction)
    choices = [space.n] if isinstance(space, Discrete) else space.nvec.tolist()
    return fraction * sum(math.log(n) for n in choices)


def allowed_target_entropy(mask: Tensor, nvec: Sequence[int], fraction: float) -> Tensor:
    """`target_entropy` of discrete actions of which only some are allowed.

        fraction * sum_j log(number of allowed choices of component j)

    The entropy of a masked policy cannot reach a target that counts forbidden choices: the
    temperature would rise without end.

    Args:
        mask: [..., p] bool, True = allowed.
        nvec: Number of choices of each component, p in sum: `Distribution.choices`.
        fraction: Of the largest entropy, within [0, 1].

    Returns:
        [...] float32 targets in nats. A component without any allowed choice adds 0.

    Raises:
        ValueError: If the shape does not fit, `mask` is not bool or the fraction is out of range.
    """
    if mask.shape[-1:] != (sum(nvec),) or mask.dtype != torch.bool:
        raise ValueError(
            f"A bool mask of shape (..., {sum(nvec)}) is needed, got {tuple(mask.shape)} "
            f"{mask.dtype}."
        )
    _check_fraction(fraction)
    allowed = torch.stack([m.sum(-1) for m in mask.split(list(nvec), -1)], dim=-1)
    return fraction * allowed.clamp(min=1).float().log().sum(-1)


def temperature_loss(log_alpha: Tensor, entropies: Tensor, targets: Tensor | float) -> Tensor:
    """Raises the temperature where entropy is short of the target, and lowers it where above.

        log(alpha) * (H - H_target)

    Args:
        log_alpha: [n] of agents, or a scalar.
        entropies: [..., n], or [...], of the policies: exact, or -log pi of what was drawn. Held
            constant.
        targets: H_target, of the shape of `entropies` or of `log_alpha`, or one number.

    Returns:
        Loss of the shape of `entropies`, to be minimised. Its gradient in log(alpha) is the
        excess of entropy.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018, eq. 18, with
        log(alpha) in place of alpha as is usual: steps are relative, and alpha stays positive.
    """
    behind = entropies.shape[entropies.ndim - log_alpha.ndim :]
    if entropies.ndim < log_alpha.ndim or behind != log_alpha.shape:
        raise ValueError(
            f"Entropies must have shape (..., *{tuple(log_alpha.shape)}), got "
            f"{tuple(entropies.shape)}."
        )
    if isinstance(targets, Tensor) and targets.shape not in (entropies.shape, log_alpha.shape, ()):
        raise ValueError(
            f"Targets must have the shape of the entropies, {tuple(entropies.shape)}, or of the "
            f"temperatures, {tuple(log_alpha.shape)}, got {tuple(targets.shape)}."
        )
    return log_alpha * (entropies - targets).detach()


def _check_fraction(fraction: float) -> None:
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"The fraction of the largest entropy must be in [0, 1], got {fraction}.")
