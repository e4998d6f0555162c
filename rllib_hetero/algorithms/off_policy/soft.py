"""What the maximum-entropy algorithms are configured with."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.off_policy.actor_critic import ActorCriticConfig
from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.ranges import check_number, check_schedule
from rllib_hetero.layout import ModuleID
from rllib_hetero.modules.q_critic import INITIAL_ALPHA, NUM_TEMPERATURES, Q_CRITIC_DEFAULTS
from rllib_hetero.modules.squashed_actor import SQUASHED_DEFAULTS, SquashedActor


class SoftConfig(ActorCriticConfig):
    """Settings of stochastic policies that are paid for their entropy, with two critics."""

    policy_family = "squashed"
    num_critics = 2
    model_defaults = Q_CRITIC_DEFAULTS | SQUASHED_DEFAULTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.critic_lr = 5e-4
        self.initial_alpha = 1.0
        self.alpha_lr: Any = 3e-4
        self.target_entropy: str | float = "auto"
        self.target_entropy_fraction = 0.98

    @override(ActorCriticConfig)
    def training(
        self,
        *,
        initial_alpha: float = NotProvided,
        alpha_lr: Any = NotProvided,
        target_entropy: str | float = NotProvided,
        target_entropy_fraction: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `ActorCriticConfig.training` for the others.

        Args:
            initial_alpha: The agents' temperature at the start.
            alpha_lr: Learning rate, or schedule, of the temperatures. None leaves them as they are.
            target_entropy: What the temperatures steer towards, in nats, for each agent. "auto":
                -dim for Box actions (of a range of 2; other ranges scale it),
                `target_entropy_fraction` of the uniform policy's for discrete ones.
            target_entropy_fraction: Which part of the uniform policy's entropy is the target of
                discrete actions under `target_entropy="auto"`, in [0, 1].
        """
        super().training(**kwargs)
        return self.set_given(
            initial_alpha=initial_alpha,
            alpha_lr=alpha_lr,
            target_entropy=target_entropy,
            target_entropy_fraction=target_entropy_fraction,
        )

    @override(OffPolicyConfig)
    def exploration_of(self, module_id: ModuleID) -> float:
        return 0.0  # Entropy explores.

    @override(ActorCriticConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_number(self, "initial_alpha", lambda x: x > 0, "> 0")
        check_number(self, "target_entropy_fraction", lambda x: 0 <= x <= 1, "in [0, 1]")
        if self.target_entropy != "auto":
            check_number(self, "target_entropy", lambda x: True, 'or "auto"')
        if self.alpha_lr is not None:
            check_schedule("alpha_lr", self.alpha_lr, least=0.0)

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=SquashedActor)

    @override(ActorCriticConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        spec = super().get_critic_spec()
        spec.model_config |= {  # type: ignore[operator]
            NUM_TEMPERATURES: len(self.layout.team.agents),
            INITIAL_ALPHA: self.initial_alpha,
        }
        return spec
