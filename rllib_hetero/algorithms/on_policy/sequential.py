"""What the algorithms that update one agent after another are configured with."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.on_policy.config import OnPolicyConfig
from rllib_hetero.algorithms.team_checks import warn_of_shared_networks
from rllib_hetero.orders import problem_with


class SequentialConfig(OnPolicyConfig):
    """Settings of the sequential update (HARL, Algorithm Template 2)."""

    ORDERS: tuple[str, ...] = ("random", "cyclic", "reverse")
    """The rules that `update_order` may name."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.update_order: str | list = "random"

    @override(OnPolicyConfig)
    def training(self, *, update_order: str | list = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `OnPolicyConfig.training` for those not named here.

        Args:
            update_order: "random" (drawn anew in every iteration, from the seed), "cyclic" (the
                environment's order), "reverse" (its reverse), or a list of all agents.
        """
        super().training(**kwargs)
        return self.set_given(update_order=update_order)

    @override(OnPolicyConfig)
    def validate(self) -> None:
        super().validate()
        self._validate_update_order()
        warn_of_shared_networks(self)

    def _validate_update_order(self) -> None:
        agents = self.layout.team.agents
        problem = problem_with(self.update_order, self.ORDERS, agents, "update_order")
        if problem:
            self._value_error(problem)
