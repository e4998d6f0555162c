"""Loss and quality of the centralised value function."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from rllib_hetero.functional._shapes import same_shape


def clipped_value_loss(
    values: Tensor,
    old_values: Tensor,
    targets: Tensor,
    *,
    clip_param: float | None,
    huber_delta: float | None,
) -> Tensor:
    """Regression loss that gains nothing by leaving a band around the old values.

        max(h(v - y), h(v_clip - y)),   v_clip = v_old + clamp(v - v_old, -eps, eps)
        h(e) = e^2 / 2 if |e| <= delta else delta * (|e| - delta / 2)

    If values are learned in a normalised space, all three tensors and `clip_param` are in it.

    Args:
        values: [...] v, the predictions.
        old_values: [...] v_old, the predictions at the time of sampling. Read if clipping.
        targets: [...] y, the returns.
        clip_param: eps > 0; None for no clipping.
        huber_delta: delta > 0; None for the squared error e^2 / 2 everywhere.

    Returns:
        [...] loss, to be minimised.

    Raises:
        ValueError: If shapes differ or a parameter is not positive.

    Reference:
        The loss of Algorithm 4's critic in HARL is the plain squared error; clipping follows
        Schulman et al., "Proximal Policy Optimization Algorithms", 2017, as practised.
    """
    same_shape(values=values, old_values=old_values, targets=targets)
    for name, value in (("clip_param", clip_param), ("huber_delta", huber_delta)):
        if value is not None and value <= 0:
            raise ValueError(f"`{name}` must be positive or None, got {value}.")
    loss = _huber(values, targets, huber_delta)
    if clip_param is None:
        return loss
    clipped = old_values + (values - old_values).clamp(-clip_param, clip_param)
    return torch.maximum(loss, _huber(clipped, targets, huber_delta))


@torch.no_grad()
def error_moments(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The five sums that the explained variance is made of.

        (sum w,  sum w y,  sum w y^2,  sum w e,  sum w e^2),   e = y - v

    Sums add up: those of several learners are all-reduced before `variance_ratio` reads them.

    Args:
        values: [...] v, the predictions.
        targets: [...] y, the returns.
        weights: [...] weights >= 0, or a bool mask. Entries of weight 0 are not read.

    Returns:
        [5] float64 sums.

    Raises:
        ValueError: If shapes differ.
    """
    same_shape(values=values, targets=targets, weights=weights)
    w = weights.double()
    y = torch.where(w > 0, targets.double(), 0.0)
    e = torch.where(w > 0, targets.double() - values.double(), 0.0)
    return torch.stack(
        [w.sum(), (w * y).sum(), (w * y * y).sum(), (w * e).sum(), (w * e * e).sum()]
    )


def variance_ratio(moments: Tensor) -> Tensor:
    """Explained variance from the sums of `error_moments`.

        1 - Var(y - v) / Var(y)

    Args:
        moments: [5] sums.

    Returns:
        Scalar float64, at most 1; 0 where the targets are constant or the total weight is 0.

    Raises:
        ValueError: If `moments` is not of shape [5].
    """
    if moments.shape != (5,):
        raise ValueError(f"`moments` must have shape (5,), got {tuple(moments.shape)}.")
    means = moments.double() / torch.where(moments[0] > 0, moments[0].double(), 1.0)
    y_variance = (means[2] - means[1] ** 2).clamp(min=0.0)
    e_variance = (means[4] - means[3] ** 2).clamp(min=0.0)
    varies = y_variance > 1e-13 * means[2]  # Below that, the difference is rounding.
    return torch.where(varies, 1.0 - e_variance / torch.where(varies, y_variance, 1.0), 0.0)


def _huber(values: Tensor, targets: Tensor, delta: float | None) -> Tensor:
    if delta is None:
        return 0.5 * (values - targets) ** 2
    return huber_loss(values, targets, reduction="none", delta=delta)
