"""F2A2-TD3: F2A2-DDPG with two critics, smoothed next actions, and actors that wait.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
    Section 5.1.2, Proposition 5, Algorithm 1.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.decentralised.algorithm import DecentralisedAlgorithm
from rllib_hetero.algorithms.decentralised.f2a2_ddpg import F2A2DDPGConfig


class F2A2TD3Config(F2A2DDPGConfig):
    """Configures F2A2-TD3. Actions must be Discrete.

    ```python
    from rllib_hetero import F2A2TD3Config

    config = (
        F2A2TD3Config()
        .environment("cooperative_mpe", env_config={"scenario": "rover_tower"})
        .env_runners(num_envs_per_env_runner=12)
        .training(policy_delay=2, target_noise=0.2)
        .consensus(topology="ring")
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    ```

    ```python
    from ray import tune

    tune.Tuner("F2A2TD3", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="decentralised",
        paper="Li et al., JMLR 2023",
        update="every agent for itself",
        correction="resampled actions of all, predicted for the others",
        step="deterministic policy gradient, twin critics, delayed, joint",
        actions=("Discrete",),
        pictures=False,
        recurrent=False,
        several_learners=False,
    )
    num_critics = 2

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or F2A2TD3)
        self.policy_delay: Any = 2
        self.target_noise: Any = 0.2
        self.target_noise_clip: Any = 0.5

    @override(F2A2DDPGConfig)
    def training(
        self,
        *,
        policy_delay: Any = NotProvided,
        target_noise: Any = NotProvided,
        target_noise_clip: Any = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `F2A2DDPGConfig.training` for those not named here.

        Each may be a dict by module id: agents then wait, and are smoothed, each in its own way,
        as [1] has it without giving numbers.

        Args:
            policy_delay: An actor is updated with every so many updates of its critic.
            target_noise: Standard deviation of the noise on the logits of next actions.
            target_noise_clip: The largest size of that noise.
        """
        super().training(**kwargs)
        return self.set_given(
            policy_delay=policy_delay,
            target_noise=target_noise,
            target_noise_clip=target_noise_clip,
        )

    @override(F2A2DDPGConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        whole = "an integer of at least 1"
        self.check_of_members("policy_delay", lambda x: isinstance(x, int) and x >= 1, whole)
        for name in ("target_noise", "target_noise_clip"):
            self.check_of_members(name, lambda x: x >= 0, "a number >= 0")

    @override(F2A2DDPGConfig)
    def get_member_class(self) -> type[Any]:
        from rllib_hetero.learners.agents.deterministic import TwinDelayedMember

        return TwinDelayedMember


class F2A2TD3(DecentralisedAlgorithm):
    """F2A2-DDPG with the smaller of two critics, each agent with a delay and a noise of its own."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> F2A2TD3Config:
        return F2A2TD3Config()
