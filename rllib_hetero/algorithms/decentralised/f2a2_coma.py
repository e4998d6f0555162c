"""F2A2-COMA: counterfactual policy gradients without a centre.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
    Section 5.1.1, Proposition 3, Algorithm 1.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.decentralised.algorithm import DecentralisedAlgorithm
from rllib_hetero.algorithms.decentralised.f2a2 import F2A2Config
from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.ranges import check_number


class F2A2COMAConfig(F2A2Config):
    """Configures F2A2-COMA. Actions must be Discrete.

    ```python
    from rllib_hetero import F2A2COMAConfig

    config = (
        F2A2COMAConfig()
        .environment("cooperative_mpe", env_config={"scenario": "rover_tower"})
        .env_runners(num_envs_per_env_runner=12)
        .training(lambda_=0.8)
        .consensus(topology="ring")
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    ```

    ```python
    from ray import tune

    tune.Tuner("F2A2COMA", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="decentralised",
        paper="Li et al., JMLR 2023",
        update="every agent for itself",
        correction="none: on-policy",
        step="policy gradient with a counterfactual baseline, TD(lambda), joint",
        actions=("Discrete",),
        pictures=False,
        recurrent=False,
        several_learners=False,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or F2A2COMA)
        self.lambda_ = 0.8
        self.entropy_coeff = 0.01
        # Policies are nearly uniform at first: there is no need of random actions.
        self.num_steps_sampled_before_learning_starts = 0

    @override(F2A2Config)
    def training(
        self, *, lambda_: float = NotProvided, entropy_coeff: float = NotProvided, **kwargs: Any
    ) -> Self:
        """Sets the training settings; see `F2A2Config.training` for those not named here.

        An update learns from the newest `train_batch_size_per_learner` steps, all of them, which
        is also all that a host keeps.

        Args:
            lambda_: Of TD(lambda), in [0, 1]. ([1] does not give it; COMA's is 0.8.)
            entropy_coeff: What a nat of entropy is worth in the actor's loss. ([1] and COMA have
                exploration by force in its place; 0 leaves both out.)
        """
        super().training(**kwargs)
        return self.set_given(lambda_=lambda_, entropy_coeff=entropy_coeff)

    @property
    @override(OffPolicyConfig)
    def rows_per_env(self) -> int:
        """The newest steps of each environment."""
        return self.total_train_batch_size // self.num_envs

    @override(F2A2Config)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_number(self, "lambda_", lambda x: 0 <= x <= 1, "in [0, 1]")
        check_number(self, "entropy_coeff", lambda x: x >= 0, ">= 0")

    @override(F2A2Config)
    def _validate_replay(self) -> None:
        if self.rows_per_env < self.rollout_fragment_length:
            self._value_error(
                f"A batch of {self.total_train_batch_size} steps has room for {self.rows_per_env} "
                f"of each of the {self.num_envs} environments, and a rollout alone has "
                f"{self.rollout_fragment_length}. Raise "
                "config.training(train_batch_size_per_learner=...), or lower "
                "config.env_runners(rollout_fragment_length=...)."
            )

    @override(F2A2Config)
    def get_member_class(self) -> type[Any]:
        from rllib_hetero.learners.agents.counterfactual import CounterfactualMember

        return CounterfactualMember


class F2A2COMA(DecentralisedAlgorithm):
    """Each agent asks its copy of the critic what else it might have done; the copies agree."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> F2A2COMAConfig:
        return F2A2COMAConfig()
