"""Scalars of an update, kept until it is known what they are over all steps and learners."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

import torch
from torch import Tensor

from rllib_hetero.layout import ModuleID
from rllib_hetero.reductions import max_over_learners, sum_over_learners

OverLearners = Literal["same", "sum", "max"]


class Notes:
    """What is logged of each module. Every learner adds the same names in the same order.

    Args:
        metrics: The learner's metrics logger.
    """

    def __init__(self, metrics: Any) -> None:
        self._metrics = metrics
        self._added: dict[ModuleID, dict[tuple[str, str], list[Tensor]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def add(
        self, module_id: ModuleID, name: str, value: Tensor, over_learners: OverLearners = "same"
    ) -> None:
        """Keeps a scalar until `log`.

        `over_learners` says what the learners' values are: the "same", shares of a "sum", or
        candidates for the "max".
        """
        self._added[module_id][name, over_learners].append(value.detach())

    def log(self, module_id: ModuleID) -> None:
        """Logs what was added since the last call: for each name the mean, or the largest."""
        for (name, over_learners), added in self._added.pop(module_id, {}).items():
            values = torch.stack([v.float() for v in added])
            if over_learners == "max":
                value = max_over_learners(values.max())
            elif over_learners == "sum":
                value = sum_over_learners(values.mean())
            else:
                value = values.mean()
            self._metrics.log_value((module_id, name), value.item(), window=1)


def largest(x: Tensor) -> Tensor:
    """The largest of numbers >= 0; 0 if there are none."""
    return x.max() if x.numel() else x.new_zeros(())
