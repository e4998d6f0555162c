"""What the algorithms with deterministic policies are configured with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.off_policy.actor_critic import ActorCriticConfig
from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.ranges import check_schedule
from rllib_hetero.layout import ModuleID
from rllib_hetero.modules.deterministic_actor import DETERMINISTIC_DEFAULTS, DeterministicActor
from rllib_hetero.modules.q_critic import Q_CRITIC_DEFAULTS


class DeterministicConfig(ActorCriticConfig):
    """Settings of deterministic policies, explored by Gaussian noise.

    Discrete actions are drawn from a Gumbel-softmax policy, which explores by itself.
    """

    policy_family = "deterministic"
    actor_attributes = ("exploration", "forward_target", "target_pairs")
    model_defaults = Q_CRITIC_DEFAULTS | DETERMINISTIC_DEFAULTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.exploration_noise: Any = 0.1

    @override(ActorCriticConfig)
    def training(self, *, exploration_noise: Any = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `ActorCriticConfig.training` for those not named here.

        Args:
            exploration_noise: Standard deviation of the noise that is added to a Box action, in
                units of half the action's range: a number, a schedule over environment steps such
                as [[0, 0.3], [1_000_000, 0.05]], or a dict of either by module id (an agent's,
                unless it shares one).
        """
        super().training(**kwargs)
        return self.set_given(exploration_noise=exploration_noise)

    @override(OffPolicyConfig)
    def exploration_of(self, module_id: ModuleID) -> Any:
        noise = self.exploration_noise
        return noise[module_id] if isinstance(noise, Mapping) else noise

    @override(ActorCriticConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        noise = self.exploration_noise
        if isinstance(noise, Mapping) and set(noise) != set(self.layout.groups):
            self._value_error(
                f"`exploration_noise` names {sorted(map(str, noise))}, the modules are "
                f"{sorted(self.layout.groups)}. Give one entry for each: "
                "config.training(exploration_noise={...})."
            )
        for m in self.layout.groups:
            check_schedule("exploration_noise", self.exploration_of(m), least=0.0)

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=DeterministicActor)
