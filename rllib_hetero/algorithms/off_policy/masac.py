"""MASAC: soft actor-critic for a team, the simultaneous baseline of HASAC.

[1] Haarnoja, Zhou, Abbeel, Levine: Soft Actor-Critic. ICML 2018.
[2] Lowe, Wu, Tamar, Harb, Abbeel, Mordatch: Multi-Agent Actor-Critic for Mixed
    Cooperative-Competitive Environments. NIPS 2017. The critic of the joint action.
"""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.soft import SoftConfig
from rllib_hetero.learners.off_policy.actor_critic import SimultaneousActors
from rllib_hetero.learners.off_policy.soft import SoftActors


class MASACConfig(SoftConfig):
    """Configures MASAC.

    ```python
    from rllib_hetero import MASACConfig

    config = (
        MASACConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_envs_per_env_runner=20)
        .training(initial_alpha=1.0, target_entropy="auto")
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("MASAC", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Haarnoja et al., ICML 2018, for a team",
        update="all at once",
        correction="none: others' replayed actions in Q",
        step="soft policy gradient, twin critics, a temperature for each agent",
        recurrent=False,
    )

    sequential = False

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MASAC)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return MASACLearner


class MASAC(OffPolicyAlgorithm):
    """Stochastic policies improve at once, each beside what the others did in the replay."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> MASACConfig:
        return MASACConfig()


class MASACLearner(SimultaneousActors, SoftActors):
    """Fit soft Q; all agents climb it, each with its own action the policy's; then temperatures."""
