"""MAPPO: multi-agent PPO with a centralised critic, the baseline with shared parameters.

[1] Yu, Velu, Vinitsky, Gao, Wang, Bayen, Wu: The Surprising Effectiveness of PPO in Cooperative
    Multi-Agent Games. NeurIPS 2022, Datasets and Benchmarks.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.config import OnPolicyConfig
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.functional import clipped_surrogate
from rllib_hetero.learners.on_policy.on_policy_learner import OnPolicyLearner
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.simultaneous import SimultaneousLearner
from rllib_hetero.sharing import ParameterSharing
from rllib_hetero.team import Team


class MAPPOConfig(OnPolicyConfig):
    """Configures MAPPO.

    One policy for all agents where their spaces are equal, as in the paper, else one for each.
    `config.multi_agent(parameter_sharing=...)` overrides.

    ```python
    from rllib_hetero import MAPPOConfig

    config = (
        MAPPOConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("MAPPO", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Yu et al., NeurIPS 2022",
        update="all at once",
        correction="none",
        step="clipped, Adam epochs",
        sharing="full, where spaces allow",
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MAPPO)
        self.parameter_sharing = "auto"

    @override(TeamConfig)
    def _sharing(self, team: Team) -> ParameterSharing:
        if self.parameter_sharing != "auto":
            return super()._sharing(team)
        return "full" if team.equal_spaces else "none"

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return MAPPOLearner


class MAPPO(OnPolicyAlgorithm):
    """All agents improve at once by PPO's clipped objective."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> MAPPOConfig:
        return MAPPOConfig()


class MAPPOLearner(SimultaneousLearner):
    """The simultaneous update with the clipped surrogate."""

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        # [1], Appendix A, the actor's objective; Schulman et al. 2017, eq. 7.
        return clipped_surrogate(change.ratio, change.advantages, config.clip_param)
