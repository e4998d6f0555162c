"""HATD3: heterogeneous-agent twin delayed deterministic policy gradient.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Section 3.2.3, Algorithm 7.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.twin_delayed import TwinDelayedConfig
from rllib_hetero.learners.off_policy.actor_critic import SequentialActors
from rllib_hetero.learners.off_policy.deterministic import TwinDelayed


class HATD3Config(TwinDelayedConfig):
    """Configures HATD3.

    ```python
    from rllib_hetero import HATD3Config

    config = (
        HATD3Config()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_envs_per_env_runner=20)
        .training(policy_delay=2, target_noise=0.2)
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("HATD3", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Zhong et al., JMLR 2024",
        update="one agent after another, random order",
        correction="predecessors' new actions in Q",
        step="deterministic policy gradient, twin critics, delayed",
        recurrent=False,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HATD3)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return HATD3Learner


class HATD3(OffPolicyAlgorithm):
    """HADDPG with the smaller of two critics, smoothed targets and delayed actors."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> HATD3Config:
        return HATD3Config()


class HATD3Learner(SequentialActors, TwinDelayed):
    """[1], Algorithm 7: fit both Q to the smaller target; now and then HADDPG's actor updates."""
