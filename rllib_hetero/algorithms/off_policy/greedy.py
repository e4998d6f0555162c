"""What the algorithms that act greedily on the agents' own action values are configured with."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.ranges import check_schedule
from rllib_hetero.layout import ModuleID
from rllib_hetero.modules.q_network import QNetwork


class GreedyConfig(OffPolicyConfig):
    """Settings of agents with Discrete actions that take the one they value most, or explore."""

    policy_family = "greedy"
    actor_attributes = ("exploration", "forward_target", "target_pairs")

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.epsilon: Any = 0.05

    @override(OffPolicyConfig)
    def training(self, *, epsilon: Any = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `OffPolicyConfig.training` for those not named here.

        Args:
            epsilon: Probability of a uniformly random choice among the allowed ones, drawn for
                each agent, environment and step: a number, or a schedule over environment steps
                such as [[0, 1.0], [50_000, 0.05]].
        """
        super().training(**kwargs)
        return self.set_given(epsilon=epsilon)

    @override(OffPolicyConfig)
    def exploration_of(self, module_id: ModuleID) -> Any:
        return self.epsilon

    @override(OffPolicyConfig)
    def validate(self) -> None:
        super().validate()
        if not self.in_evaluation:
            check_schedule("epsilon", self.epsilon, least=0.0, most=1.0)

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=QNetwork)
