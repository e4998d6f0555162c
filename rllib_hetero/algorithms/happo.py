"""HAPPO: heterogeneous-agent proximal policy optimisation.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Section 3.2.2, Algorithm 4.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override
from torch import Tensor
from typing_extensions import Self

from rllib_hetero.algorithms.on_policy import OnPolicyAlgorithm, OnPolicyConfig
from rllib_hetero.functional import clipped_surrogate
from rllib_hetero.learners.sequential import SequentialLearner
from rllib_hetero.learners.team_learner import TeamLearner


class HAPPOConfig(OnPolicyConfig):
    """Configures HAPPO.

    .. code-block:: python

        from rllib_hetero import HAPPOConfig

        config = (
            HAPPOConfig()
            .environment("mpe", env_config={"scenario": "simple_spread"})
            .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
            .training(lr=5e-4, train_batch_size_per_learner=4000, num_epochs=5)
        )
        algo = config.build_algo()
        print(algo.train()["env_runners"]["episode_return_mean"])

    .. code-block:: python

        from ray import tune

        tune.Tuner("HAPPO", param_space=config).fit()
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HAPPO)
        self.update_order: str | list = "random"

    @override(OnPolicyConfig)
    def training(self, *, update_order: str | list = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `OnPolicyConfig.training` for those not named here.

        Args:
            update_order: "random" (drawn anew in every iteration, from the seed), "fixed" (the
                environment's order), or a list of all agents.
        """
        super().training(**kwargs)
        if update_order is not NotProvided:
            self.update_order = update_order
        return self

    @override(OnPolicyConfig)
    def validate(self) -> None:
        super().validate()
        agents = set(self.layout.team.agents)
        order = self.update_order
        if order in ("random", "fixed"):
            return
        if isinstance(order, str) or set(order) != agents or len(order) != len(agents):
            self._value_error(
                f"`update_order` is {order!r}; use 'random', 'fixed' or a list of all agents "
                f"{sorted(map(str, agents))}: config.training(update_order=...)."
            )

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return HAPPOLearner


class HAPPO(OnPolicyAlgorithm):
    """Agents improve one after another by PPO's clipped objective, corrected by M."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> HAPPOConfig:
        return HAPPOConfig()


class HAPPOLearner(SequentialLearner):
    """The sequential update with the clipped surrogate."""

    @override(TeamLearner)
    def surrogate(
        self, ratio: Tensor, advantages: Tensor, correction: Tensor | None, config: Any
    ) -> Tensor:
        # [1], eq. 11.
        return clipped_surrogate(ratio, advantages, config.clip_param, correction)
