"""VDN: the team's value is the sum of each agent's own.

[1] Sunehag, Lever, Gruslys, Czarnecki, Zambaldi, Jaderberg, Lanctot, Sonnerat, Leibo, Tuyls,
    Graepel: Value-Decomposition Networks For Cooperative Multi-Agent Learning. 2017.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.value_decomposition import ValueDecompositionConfig
from rllib_hetero.learners.off_policy.value_decomposition import ValueDecompositionLearner


class VDNConfig(ValueDecompositionConfig):
    """Configures VDN. Actions must be Discrete.

    ```python
    from rllib_hetero import VDNConfig

    config = (
        VDNConfig()
        .environment(
            "mpe", env_config={"scenario": "simple_spread", "continuous_actions": False}
        )
        .env_runners(num_envs_per_env_runner=8)
        .rl_module(model_config={"recurrent": "gru"})
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("VDN", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Sunehag et al., 2017",
        update="all at once",
        correction="sum of the agents' Q",
        step="double Q-learning of the team's return",
        sharing="full, where spaces allow",
        actions=("Discrete",),
    )
    mixer = "sum"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or VDN)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return VDNLearner


class VDN(OffPolicyAlgorithm):
    """Agents' own values add up to the team's, and are learned through the sum."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> VDNConfig:
        return VDNConfig()


class VDNLearner(ValueDecompositionLearner):
    """[1], eq. 3, with double Q-learning."""
