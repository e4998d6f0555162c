"""F2A2-SAC: soft actors with attention critics, without a centre.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
    Section 5.1.2, Proposition 6, Algorithm 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.decentralised.algorithm import DecentralisedAlgorithm
from rllib_hetero.algorithms.decentralised.f2a2 import F2A2Config
from rllib_hetero.algorithms.ranges import check_number


class F2A2SACConfig(F2A2Config):
    """Configures F2A2-SAC. Actions must be Discrete.

    ```python
    from rllib_hetero import F2A2SACConfig

    config = (
        F2A2SACConfig()
        .environment("cooperative_mpe", env_config={"scenario": "rover_tower"})
        .env_runners(num_envs_per_env_runner=12)
        .training(temperature=0.01)
        .consensus(topology="ring")
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    ```

    ```python
    from ray import tune

    tune.Tuner("F2A2SAC", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="decentralised",
        paper="Li et al., JMLR 2023",
        update="every agent for itself",
        correction="resampled actions of all, predicted for the others",
        step="soft policy gradient with a counterfactual baseline, attention critics, joint",
        actions=("Discrete",),
        pictures=False,
        recurrent=False,
        several_learners=False,
        global_state=False,
    )
    critics: ClassVar[tuple[str, ...]] = ("attention", "joint")

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or F2A2SAC)
        self.temperature = 0.01
        self.twin_q = True
        self.shared = "attention"

    @override(F2A2Config)
    def training(
        self, *, temperature: float = NotProvided, twin_q: bool = NotProvided, **kwargs: Any
    ) -> Self:
        """Sets the training settings; see `F2A2Config.training` for those not named here.

        Args:
            temperature: What a nat of entropy is worth, in rewards ([1]: 0.01 in the particle
                games, of rewards that are standardised where the critic is MAAC's).
            twin_q: Whether there are two critics, of which the smaller is believed. ([1]'s
                Proposition 6 has two, its section E.2 one.)
        """
        super().training(**kwargs)
        return self.set_given(temperature=temperature, twin_q=twin_q)

    @property
    def num_critics(self) -> int:  # type: ignore[override]
        """How many critics there are."""
        return 2 if self.twin_q else 1

    @override(F2A2Config)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_number(self, "temperature", lambda x: x >= 0, ">= 0")
        if not isinstance(self.twin_q, bool):
            self._value_error(
                f"`twin_q` must be True or False, got {self.twin_q!r}: config.training(twin_q=...)."
            )

    @override(F2A2Config)
    def get_member_class(self) -> type[Any]:
        from rllib_hetero.learners.agents.soft import SoftMember

        return SoftMember


class F2A2SAC(DecentralisedAlgorithm):
    """Each agent attends to the others with attention that all agree on, and keeps the rest."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> F2A2SACConfig:
        return F2A2SACConfig()
