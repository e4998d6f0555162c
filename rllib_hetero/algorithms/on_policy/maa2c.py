"""MAA2C: multi-agent advantage actor-critic with a centralised critic, HAA2C's baseline.

[1] Papoudakis, Christianos, Schäfer, Albrecht: Benchmarking Multi-Agent Deep Reinforcement
    Learning Algorithms in Cooperative Tasks. NeurIPS 2021, Datasets and Benchmarks.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.mappo import MAPPOConfig
from rllib_hetero.functional import linear_surrogate
from rllib_hetero.learners.on_policy.on_policy_learner import OnPolicyLearner
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.simultaneous import SimultaneousLearner


class MAA2CConfig(MAPPOConfig):
    """Configures MAA2C: MAPPO's settings, without the clipping.

    ```python
    from rllib_hetero import MAA2CConfig

    config = (
        MAA2CConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("MAA2C", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Papoudakis et al., NeurIPS 2021",
        update="all at once",
        correction="none",
        step="unclipped, Adam epochs",
        sharing="full, where spaces allow",
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MAA2C)
        self.clip_param = None

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return MAA2CLearner


class MAA2C(OnPolicyAlgorithm):
    """All agents climb the joint advantage at once."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> MAA2CConfig:
        return MAA2CConfig()


class MAA2CLearner(SimultaneousLearner):
    """The simultaneous update with the unclipped surrogate.

    With `num_epochs=1` this is the policy gradient of [1], Section 3.2; with more, each epoch is
    an importance-sampled step on the same batch, as in HAA2C, which it is the baseline of.
    """

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        return linear_surrogate(change.ratio, change.advantages)
