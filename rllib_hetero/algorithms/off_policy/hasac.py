"""HASAC: heterogeneous-agent soft actor-critic.

[1] Liu, Zhong, Hu, Fu, Fu, Chang, Yang: Maximum Entropy Heterogeneous-Agent Reinforcement
    Learning. ICLR 2024.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.soft import SoftConfig
from rllib_hetero.learners.off_policy.actor_critic import SequentialActors
from rllib_hetero.learners.off_policy.soft import SoftActors


class HASACConfig(SoftConfig):
    """Configures HASAC.

    ```python
    from rllib_hetero import HASACConfig

    config = (
        HASACConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_envs_per_env_runner=20)
        .training(initial_alpha=1.0, target_entropy="auto")
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("HASAC", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Liu et al., ICLR 2024",
        update="one agent after another, random order",
        correction="predecessors' new actions in Q",
        step="soft policy gradient, twin critics, a temperature for each agent",
        recurrent=False,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HASAC)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return HASACLearner


class HASAC(OffPolicyAlgorithm):
    """Stochastic policies improve one after another in return and entropy."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> HASACConfig:
        return HASACConfig()


class HASACLearner(SequentialActors, SoftActors):
    """Fit soft Q; each agent in turn climbs it beside the updated ones; then the temperatures."""
