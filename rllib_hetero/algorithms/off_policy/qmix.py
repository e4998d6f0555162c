"""QMIX: the team's value is a monotonic function of each agent's own.

[1] Rashid, Samvelyan, de Witt, Farquhar, Foerster, Whiteson: QMIX: Monotonic Value Function
    Factorisation for Deep Multi-Agent Reinforcement Learning. ICML 2018.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.value_decomposition import ValueDecompositionConfig
from rllib_hetero.learners.off_policy.value_decomposition import ValueDecompositionLearner
from rllib_hetero.modules.mixer import MIXER_DEFAULTS


class QMIXConfig(ValueDecompositionConfig):
    """Configures QMIX. Actions must be Discrete.

    ```python
    from rllib_hetero import QMIXConfig

    config = (
        QMIXConfig()
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

    tune.Tuner("QMIX", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Rashid et al., ICML 2018",
        update="all at once",
        correction="monotonic mixing of the agents' Q",
        step="double Q-learning of the team's return",
        sharing="full, where spaces allow",
        actions=("Discrete",),
    )
    mixer = "monotonic"
    model_defaults = ValueDecompositionConfig.model_defaults | MIXER_DEFAULTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or QMIX)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return QMIXLearner


class QMIX(OffPolicyAlgorithm):
    """Agents' own values are mixed, by weights of the state, and learned through the mix."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> QMIXConfig:
        return QMIXConfig()


class QMIXLearner(ValueDecompositionLearner):
    """[1], eq. 6, with double Q-learning."""
