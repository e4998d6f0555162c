"""ARMAPPO: MAPPO whose agents act one after another, each seeing the actions before its own.

[1] Fu, Yu, Xu, Yang, Wu: Revisiting Some Common Practices in Cooperative Multi-Agent
    Reinforcement Learning. ICML 2022. The auto-regressive policy.
[2] Li, Zhao, Wu, Pajarinen: Backpropagation Through Agents. AAAI 2024. The baseline, without and
    with projection (Figure 13).
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.autoregressive import AutoregressiveConfig
from rllib_hetero.algorithms.on_policy.mappo import MAPPOLearner


class ARMAPPOConfig(AutoregressiveConfig):
    """Configures ARMAPPO.

    The learner is MAPPO's. What an agent saw of the others' actions is part of its recorded
    observation, so that the policy is trained under the conditioning that it acted under: the
    ratio at the first step is 1. (The authors of [2] evaluate it under random other ones.)

    [2] calls it "w/ PROJ" as it is here, and plain ARMAPPO with
    `config.rl_module(model_config={"action_projection": False})`.

    ```python
    from rllib_hetero import ARMAPPOConfig

    config = (
        ARMAPPOConfig()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_envs_per_env_runner=50)
        .training(train_batch_size_per_learner=10_000, num_epochs=15)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("ARMAPPO", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Fu et al., ICML 2022",
        update="all at once",
        correction="none",
        step="clipped, Adam epochs",
        autoregressive=True,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or ARMAPPO)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return MAPPOLearner


class ARMAPPO(OnPolicyAlgorithm):
    """Agents act in sequence, and improve all at once by PPO's clipped objective."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> ARMAPPOConfig:
        return ARMAPPOConfig()
