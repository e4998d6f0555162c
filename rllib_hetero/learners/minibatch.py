"""What a team learner's iterator yields: one step of one or several modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rllib_hetero.layout import ModuleID

Rows = dict[str, Any]
"""A module's columns, by name."""


@dataclass(frozen=True)
class Minibatch:
    """What RLlib's `Learner.update` loops over: each module's rows for one gradient step.

    Attributes:
        policy_batches: Module id to its rows.
    """

    policy_batches: dict[ModuleID, Rows]
