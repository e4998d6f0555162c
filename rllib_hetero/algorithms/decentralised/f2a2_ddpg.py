"""F2A2-DDPG: deterministic policy gradients without a centre.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
    Section 5.1.2, Proposition 4, Algorithm 1.
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
from rllib_hetero.algorithms.ranges import check_number


class F2A2DDPGConfig(F2A2Config):
    """Configures F2A2-DDPG. Actions must be Discrete.

    ```python
    from rllib_hetero import F2A2DDPGConfig

    config = (
        F2A2DDPGConfig()
        .environment("cooperative_mpe", env_config={"scenario": "rover_tower"})
        .env_runners(num_envs_per_env_runner=12)
        .training(tau=0.005)
        .consensus(topology="ring")
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    ```

    ```python
    from ray import tune

    tune.Tuner("F2A2DDPG", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="decentralised",
        paper="Li et al., JMLR 2023",
        update="every agent for itself",
        correction="resampled actions of all, predicted for the others",
        step="deterministic policy gradient, joint with the critic's",
        actions=("Discrete",),
        pictures=False,
        recurrent=False,
        several_learners=False,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or F2A2DDPG)
        self.gumbel_temperature = 1.0
        self.entropy_coeff = 0.01

    @override(F2A2Config)
    def training(
        self,
        *,
        gumbel_temperature: float = NotProvided,
        entropy_coeff: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `F2A2Config.training` for those not named here.

        Args:
            gumbel_temperature: Temperature of the softmax that gradients of the actions pass.
            entropy_coeff: What a nat of entropy is worth in the actor's loss. ([1] has none: 0.)
        """
        super().training(**kwargs)
        return self.set_given(gumbel_temperature=gumbel_temperature, entropy_coeff=entropy_coeff)

    @override(F2A2Config)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_number(self, "gumbel_temperature", lambda x: x > 0, "> 0")
        check_number(self, "entropy_coeff", lambda x: x >= 0, ">= 0")

    @override(F2A2Config)
    def get_member_class(self) -> type[Any]:
        from rllib_hetero.learners.agents.deterministic import DeterministicMember

        return DeterministicMember


class F2A2DDPG(DecentralisedAlgorithm):
    """Each agent climbs its own copy of the critic, and the copies come to agree."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> F2A2DDPGConfig:
        return F2A2DDPGConfig()
