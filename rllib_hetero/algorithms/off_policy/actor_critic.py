"""What the algorithms of actors and a critic of the joint action are configured with."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.ranges import check_integer, check_number
from rllib_hetero.algorithms.team_checks import warn_of_shared_networks
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.modules.q_critic import NUM_CRITICS, TeamQCritic
from rllib_hetero.orders import problem_with


class ActorCriticConfig(OffPolicyConfig):
    """Settings of actors and a critic of the joint action.

    Attributes:
        num_critics: How many critics are fitted to the same targets.
        sequential: Whether actors are updated one after another.
    """

    num_critics: ClassVar[int] = 1
    sequential: ClassVar[bool] = True
    ORDERS: ClassVar[tuple[str, ...]] = ("random", "cyclic", "reverse")
    """The rules that `update_order` may name."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.policy_delay = 1
        self.actor_num_epochs = 1
        self.update_order: str | list = "random"
        self.gumbel_temperature = 1.0

    @override(OffPolicyConfig)
    def training(
        self,
        *,
        policy_delay: int = NotProvided,
        actor_num_epochs: int = NotProvided,
        update_order: str | list = NotProvided,
        gumbel_temperature: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `OffPolicyConfig.training` for those not named here.

        Args:
            policy_delay: Actors are updated with every so many updates of the critic.
            actor_num_epochs: Gradient steps of an actor on one minibatch. Sequential updates only.
            update_order: "random" (drawn for each update, from the seed), "cyclic" (the
                environment's order), "reverse" (its reverse), or a list of all agents. Sequential
                updates only.
            gumbel_temperature: Temperature of the softmax that gradients of discrete actions pass.
        """
        super().training(**kwargs)
        return self.set_given(
            policy_delay=policy_delay,
            actor_num_epochs=actor_num_epochs,
            update_order=update_order,
            gumbel_temperature=gumbel_temperature,
        )

    @property
    @override(OffPolicyConfig)
    def target_update_interval(self) -> int:
        return self.target_network_update_freq or self.policy_delay

    @override(OffPolicyConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_integer(self, "policy_delay", 1)
        check_integer(self, "actor_num_epochs", 1)
        check_number(self, "gumbel_temperature", lambda x: x > 0, "> 0")
        agents = self.layout.team.agents
        problem = problem_with(self.update_order, self.ORDERS, agents, "update_order")
        if problem:
            self._value_error(problem)
        if self.sequential:
            warn_of_shared_networks(self)
        elif (self.update_order, self.actor_num_epochs) != ("random", 1):
            self._value_error(
                f"{self.algo_class.__name__} updates all actors at once: remove "
                "config.training(update_order=..., actor_num_epochs=...)."
            )

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        return RLModuleSpec(
            module_class=TeamQCritic,
            observation_space=self.layout.team.critic_space,
            action_space=gym.spaces.Box(-np.inf, np.inf, (self.layout.joint_size,), np.float32),
            learner_only=True,
            model_config=self.model_config | {NUM_CRITICS: self.num_critics},
        )
