"""MATD3: MADDPG with TD3's twin critics, smoothed targets and delayed actors.

[1] Ackermann, Gabler, Osa, Sugiyama: Reducing Overestimation Bias in Multi-Agent Domains Using
    Double Centralized Critics. Deep RL Workshop, NeurIPS 2019. For a team: one pair of critics.
[2] Lowe, Wu, Tamar, Harb, Abbeel, Mordatch: Multi-Agent Actor-Critic for Mixed
    Cooperative-Competitive Environments. NIPS 2017.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.twin_delayed import TwinDelayedConfig
from rllib_hetero.learners.off_policy.actor_critic import SimultaneousActors
from rllib_hetero.learners.off_policy.deterministic import TwinDelayed


class MATD3Config(TwinDelayedConfig):
    """Configures MATD3.

    ```python
    from rllib_hetero import MATD3Config

    config = (
        MATD3Config()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_envs_per_env_runner=20)
        .training(policy_delay=2, target_noise=0.2)
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("MATD3", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Ackermann et al., 2019",
        update="all at once",
        correction="none: others' replayed actions in Q",
        step="deterministic policy gradient, twin critics, delayed",
        recurrent=False,
    )

    sequential = False

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MATD3)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return MATD3Learner


class MATD3(OffPolicyAlgorithm):
    """MADDPG with the smaller of two critics, smoothed targets and delayed actors."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> MATD3Config:
        return MATD3Config()


class MATD3Learner(SimultaneousActors, TwinDelayed):
    """Fit both Q to the smaller target; now and then MADDPG's actor updates ([2], eq. 6)."""
