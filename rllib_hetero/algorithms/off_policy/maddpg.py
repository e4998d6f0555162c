"""MADDPG: multi-agent deep deterministic policy gradient, the simultaneous baseline of HADDPG.

[1] Lowe, Wu, Tamar, Harb, Abbeel, Mordatch: Multi-Agent Actor-Critic for Mixed
    Cooperative-Competitive Environments. NIPS 2017. For a team: one critic of the team's return.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.deterministic import DeterministicConfig
from rllib_hetero.learners.off_policy.actor_critic import SimultaneousActors
from rllib_hetero.learners.off_policy.deterministic import DeterministicActors


class MADDPGConfig(DeterministicConfig):
    """Configures MADDPG.

    ```python
    from rllib_hetero import MADDPGConfig

    config = (
        MADDPGConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_envs_per_env_runner=20)
        .training(exploration_noise=0.1, tau=0.005)
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("MADDPG", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Lowe et al., NIPS 2017",
        update="all at once",
        correction="none: others' replayed actions in Q",
        step="deterministic policy gradient",
        recurrent=False,
    )

    sequential = False

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MADDPG)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return MADDPGLearner


class MADDPG(OffPolicyAlgorithm):
    """Deterministic policies improve at once, each beside what the others did in the replay."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> MADDPGConfig:
        return MADDPGConfig()


class MADDPGLearner(SimultaneousActors, DeterministicActors):
    """[1], eq. 6: fit Q; then all agents climb Q, each with its own action the policy's."""
