"""IQL: independent Q-learning, the baseline of agents that take each other for surroundings.

[1] Tan: Multi-Agent Reinforcement Learning: Independent vs. Cooperative Agents. ICML 1993.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.value_decomposition import ValueDecompositionConfig
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.learners.off_policy.value_decomposition import IndependentLearner


class IQLConfig(ValueDecompositionConfig):
    """Configures IQL. Actions must be Discrete.

    ```python
    from rllib_hetero import IQLConfig

    config = (
        IQLConfig()
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

    tune.Tuner("IQL", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Tan, ICML 1993",
        update="all at once",
        correction="none",
        step="double Q-learning of the agent's own return",
        sharing="full, where spaces allow",
        actions=("Discrete",),
    )
    mixer = "none"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or IQL)

    @property
    @override(TeamConfig)
    def returns_end_with_lives(self) -> bool:
        return True

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return IQLLearner


class IQL(OffPolicyAlgorithm):
    """Each agent learns the values of its own actions, as if it were alone."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> IQLConfig:
        return IQLConfig()


class IQLLearner(IndependentLearner):
    """Each agent's own rewards and values, with double Q-learning."""
