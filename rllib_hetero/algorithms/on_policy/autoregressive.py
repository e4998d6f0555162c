"""What the algorithms whose agents act one after another are configured with."""

from __future__ import annotations

from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.on_policy.config import OnPolicyConfig
from rllib_hetero.orders import arrange, problem_with
from rllib_hetero.team import AgentID


class AutoregressiveConfig(OnPolicyConfig):
    """Settings of teams that act in sequence.

    The joint policy is pi(a | s) = prod_i pi_i(a_i | s, a_1, ..., a_{i-1}) (Li et al., AAAI 2024,
    eq. 3): each agent sees its observation and the actions of all that acted before it in the
    same step. `config.rl_module(model_config={"action_projection": ...})` says how these enter
    its network: through a network of their own (True, the default), or as they are, at the head.
    """

    autoregressive: ClassVar[bool] = True
    EXECUTION_ORDERS: ClassVar[tuple[str, ...]] = ("fixed", "reverse", "random")
    """The rules that `execution_order` may name."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.execution_order: str | list = "fixed"

    @override(OnPolicyConfig)
    def training(self, *, execution_order: str | list = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `OnPolicyConfig.training` for those not named here.

        Args:
            execution_order: In which order agents act: "fixed" (the environment's order),
                "reverse" (its reverse), "random" (drawn anew in every iteration, from the seed),
                or a list of all agents.
        """
        super().training(**kwargs)
        return self.set_given(execution_order=execution_order)

    @override(OnPolicyConfig)
    def validate(self) -> None:
        super().validate()
        problem = problem_with(
            self.execution_order,
            self.EXECUTION_ORDERS,
            self.layout.team.agents,
            "execution_order",
        )
        if problem:
            self._value_error(problem)

    def execution_order_of(self, num_updates: int) -> list[AgentID]:
        """The order in which agents act with the weights that this many updates have made."""
        seed = (self.update_order_seed or 0, num_updates, 2)
        return arrange(self.layout.team.agents, self.execution_order, seed)
