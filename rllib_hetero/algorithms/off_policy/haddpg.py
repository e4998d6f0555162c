"""HADDPG: heterogeneous-agent deep deterministic policy gradient.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Section 3.2.3, Algorithm 6.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.deterministic import DeterministicConfig
from rllib_hetero.learners.off_policy.actor_critic import SequentialActors
from rllib_hetero.learners.off_policy.deterministic import DeterministicActors


class HADDPGConfig(DeterministicConfig):
    """Configures HADDPG.

    ```python
    from rllib_hetero import HADDPGConfig

    config = (
        HADDPGConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_envs_per_env_runner=20)
        .training(exploration_noise=0.1, tau=0.005)
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("HADDPG", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Zhong et al., JMLR 2024",
        update="one agent after another, random order",
        correction="predecessors' new actions in Q",
        step="deterministic policy gradient",
        recurrent=False,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HADDPG)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return HADDPGLearner


class HADDPG(OffPolicyAlgorithm):
    """Deterministic policies improve one after another along the gradient of a joint Q."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> HADDPGConfig:
        return HADDPGConfig()


class HADDPGLearner(SequentialActors, DeterministicActors):
    """[1], Algorithm 6: fit Q; then each agent in turn climbs Q beside the updated ones."""
