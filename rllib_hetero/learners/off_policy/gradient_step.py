"""What an off-policy learner's iterator yields: losses, and which modules step on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from rllib_hetero.layout import ModuleID

Loss = Callable[[], Tensor]
"""This learner's share of a loss: shares add up to the loss on the whole minibatch."""


@dataclass(frozen=True)
class GradientStep:
    """One gradient step of one or several modules.

    Attributes:
        policy_batches: Module id to what gives its loss; None where another one's loss is its own,
            too. (RLlib's name: its loop over minibatches hands this to `Learner._update`.)
    """

    policy_batches: dict[ModuleID, Loss | None]
