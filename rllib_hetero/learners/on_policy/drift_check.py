"""Whether a drift of the user's own is one: a look at the batch at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rllib_hetero.learners.on_policy.policy_change import PolicyChange

logger = logging.getLogger(__name__)

CHECKED_UPDATES = 5
"""In how many updates of a run the drift is looked at."""

# By how many standard errors a mean over samples must miss 0: chance alone does so in one of
# three million looks.
_ERRORS = 5.0
# What rounding may leave of a zero, next to numbers of order 1.
_ZERO = 1e-5


class DriftCheck:
    """Warns, once for each, where a drift violates HARL's Definition 10 on a batch.

    A drift is given sample by sample, and what counts is its expectation over the old policy's
    actions. So means over samples are looked at, and only what their noise cannot explain is
    called a violation.

    Args:
        drift: Called with a `PolicyChange` and the module's settings.
        name: The learner's name, for the warning.
    """

    def __init__(self, drift: Callable[[PolicyChange, Any], Tensor], name: str) -> None:
        self._drift = drift
        self._name = name
        self._said: set[str] = set()

    def at_the_old_policy(self, change: PolicyChange, active: Tensor, config: Any) -> None:
        """Value and gradient where nothing has changed: both must be 0.

        Args:
            change: With `inputs` equal to `old_inputs`, a leaf that requires a gradient.
            active: (b,) bool, the samples that count.
            config: The settings of the module.
        """
        drift = self._drift(change, config)
        value = drift.detach()[active].abs()
        if value.numel() and value.max() > _ZERO:
            self._warn("is not 0 where the policy has not changed", f"up to {value.max():.2g}")
        if not drift.requires_grad:
            return
        (gradient,) = torch.autograd.grad(drift.sum(), change.inputs, allow_unused=True)
        if gradient is None:
            return
        mean, noise = _mean_and_error(gradient[active])
        if (mean.abs() > _ERRORS * noise + _ZERO).any():
            size = mean.abs().max()
            self._warn("has a gradient where the policy has not changed", f"of {size:.2g}")

    def at_a_new_policy(self, change: PolicyChange, active: Tensor, config: Any) -> None:
        """Its mean where the policy has changed: it must not be negative.

        Args:
            change: The change that an update has made.
            active: (b,) bool, the samples that count.
            config: The settings of the module.
        """
        with torch.no_grad():
            mean, noise = _mean_and_error(self._drift(change, config)[active])
        if mean < -(_ERRORS * noise + _ZERO):
            self._warn("is negative", f"{mean:.2g} on average")

    def _warn(self, what: str, how: str) -> None:
        if what not in self._said:
            self._said.add(what)
            logger.warning(
                "The drift of %s %s (%s). HARL's Definition 10 asks for a drift that is never "
                "negative, and zero with zero gradient at the old policy; without that, nothing "
                "promises that updates improve the return.",
                self._name,
                what,
                how,
            )


def _mean_and_error(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over samples (b, ...) and its standard error; zeros without two samples.

    As if two samples more, an error of 1 away on either side, had been seen: rare ones that
    were not drawn leave no trace in the deviation, as with few samples or a policy that is
    nearly sure of itself.
    """
    if len(x) < 2:
        zero = x.new_zeros(x.shape[1:])
        return zero, zero
    return x.mean(0), (x.var(0) * len(x) + 2.0).sqrt() / len(x)
