"""HAPPO: heterogeneous-agent proximal policy optimisation.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Section 3.2.2, Algorithm 4.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.sequential import SequentialConfig
from rllib_hetero.functional import clipped_surrogate
from rllib_hetero.learners.on_policy.on_policy_learner import OnPolicyLearner
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.sequential import SequentialLearner


class HAPPOConfig(SequentialConfig):
    """Configures HAPPO.

    ```python
    from rllib_hetero import HAPPOConfig

    config = (
        HAPPOConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .training(lr=5e-4, train_batch_size_per_learner=4000, num_epochs=5)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("HAPPO", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Zhong et al., JMLR 2024",
        update="one agent after another, random order",
        correction="product of predecessors' ratios",
        step="clipped, Adam epochs",
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HAPPO)

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

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        # [1], eq. 11.
        return clipped_surrogate(
            change.ratio, change.advantages, config.clip_param, change.correction
        )
