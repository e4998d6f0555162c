"""HATRPO: heterogeneous-agent trust region policy optimisation.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Section 3.2.1, Algorithm 3.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.sequential import SequentialConfig
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.learners.on_policy.trust_region import TrustRegionLearner


class HATRPOConfig(SequentialConfig):
    """Configures HATRPO.

    Actors take one step per iteration, on the whole batch: `lr`, `num_epochs` and
    `minibatch_size` are the critic's.

    ```python
    from rllib_hetero import HATRPOConfig

    config = (
        HATRPOConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .training(kl_threshold=0.005)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("HATRPO", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Zhong et al., JMLR 2024",
        update="one agent after another, random order",
        correction="product of predecessors' ratios",
        step="natural gradient within a KL ball, line search",
    )

    per_module = SequentialConfig.per_module | {
        "kl_threshold",
        "cg_iterations",
        "cg_damping",
        "line_search_steps",
        "backtrack_coeff",
        "accept_ratio",
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HATRPO)
        self.clip_param = None
        self.entropy_coeff = 0.0
        self.kl_threshold = 0.01
        self.cg_iterations = 10
        self.cg_damping = 0.1
        self.line_search_steps = 10
        self.backtrack_coeff = 0.8
        self.accept_ratio = 0.5

    @override(SequentialConfig)
    def training(
        self,
        *,
        kl_threshold: float = NotProvided,
        cg_iterations: int = NotProvided,
        cg_damping: float = NotProvided,
        line_search_steps: int = NotProvided,
        backtrack_coeff: float = NotProvided,
        accept_ratio: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `OnPolicyConfig.training` for those not named here.

        Args:
            kl_threshold: delta, the largest mean KL divergence of one agent's update.
            cg_iterations: Most iterations of the conjugate gradient method.
            cg_damping: Multiple of the identity that is added to the Fisher matrix.
            line_search_steps: L: the full step is tried, and this many shorter ones.
            backtrack_coeff: alpha, by which each trial of the line search is shorter.
            accept_ratio: kappa, the share of the expected improvement that a trial must reach.
        """
        super().training(**kwargs)
        return self.set_given(
            kl_threshold=kl_threshold,
            cg_iterations=cg_iterations,
            cg_damping=cg_damping,
            line_search_steps=line_search_steps,
            backtrack_coeff=backtrack_coeff,
            accept_ratio=accept_ratio,
        )

    @override(SequentialConfig)
    def validate(self) -> None:
        super().validate()
        check_number(self, "kl_threshold", lambda x: x > 0, "> 0")
        check_number(self, "cg_iterations", lambda x: x >= 1, ">= 1")
        check_number(self, "cg_damping", lambda x: x >= 0, ">= 0")
        check_number(self, "line_search_steps", lambda x: x >= 0, ">= 0")
        check_number(self, "backtrack_coeff", lambda x: 0 < x < 1, "in (0, 1)")
        check_number(self, "accept_ratio", lambda x: 0 <= x <= 1, "in [0, 1]")

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return HATRPOLearner


class HATRPO(OnPolicyAlgorithm):
    """Agents improve one after another, each as far as its KL ball allows."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> HATRPOConfig:
        return HATRPOConfig()


class HATRPOLearner(TrustRegionLearner):
    """The template with zero drift and a KL ball for a neighbourhood ([1], Section 3.4)."""
