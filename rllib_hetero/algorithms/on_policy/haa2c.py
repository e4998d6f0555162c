"""HAA2C: heterogeneous-agent advantage actor-critic.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Section 3.5.1, Algorithm 5.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.sequential import SequentialConfig
from rllib_hetero.learners.on_policy.sequential import SequentialLearner


class HAA2CConfig(SequentialConfig):
    """Configures HAA2C. `num_epochs` are the paper's mini-epochs.

    It is also where a mirror-learning method of your own starts from: put a subclass of
    `SequentialLearner` into `config.learners(learner_class=...)`.

    ```python
    from rllib_hetero import HAA2CConfig

    config = (
        HAA2CConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("HAA2C", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Zhong et al., JMLR 2024",
        update="one agent after another, random order",
        correction="product of predecessors' ratios",
        step="unclipped, Adam epochs",
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HAA2C)
        self.clip_param = None

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return HAA2CLearner


class HAA2C(OnPolicyAlgorithm):
    """Agents climb the joint advantage one after another, without penalty or bound."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> HAA2CConfig:
        return HAA2CConfig()


class HAA2CLearner(SequentialLearner):
    """The mirror-learning template as it is ([1], eq. 13 and Section H).

    The drift is zero and the neighbourhood is the whole policy space, so that a few steps of
    gradient ascent on the corrected advantage remain.
    """
