"""CoPPO: coordinated proximal policy optimisation.

[1] Wu, Yu, Ye, Zhang, Piao, Zhuo: Coordinated Proximal Policy Optimization. NeurIPS 2021.
[2] Wang, Tian, Wan, Wen, Wang, Zhang: Order Matters: Agent-by-agent Policy Optimization.
    ICLR 2023. Restates [1]'s objective.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.utils.annotations import override
from torch import Tensor
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.config import OnPolicyConfig
from rllib_hetero.algorithms.on_policy.mappo import MAPPOConfig
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.functional import clipped_joint_surrogate
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Rows
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION, OnPolicyLearner
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.simultaneous import SimultaneousLearner


class CoPPOConfig(MAPPOConfig):
    """Configures CoPPO: MAPPO's settings, and the outer clip.

    ```python
    from rllib_hetero import CoPPOConfig

    config = (
        CoPPOConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .training(clip_param=0.2, outer_clip_param=0.1)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("CoPPO", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Wu et al., NeurIPS 2021",
        update="all at once",
        correction="product of all others' current ratios, clipped",
        step="clipped joint ratio, Adam epochs",
        sharing="full, where spaces allow",
    )

    per_module = MAPPOConfig.per_module | {"outer_clip_param"}

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or CoPPO)
        self.outer_clip_param: float | None = None

    @override(OnPolicyConfig)
    def training(self, *, outer_clip_param: float | None = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `OnPolicyConfig.training` for those not named here.

        Args:
            outer_clip_param: How far from 1 the product of the other agents' ratios is clipped
                before it multiplies the agent's own. None: half of `clip_param`, as in the
                settings that were published with [2].
        """
        super().training(**kwargs)
        return self.set_given(outer_clip_param=outer_clip_param)

    @override(OnPolicyConfig)
    def validate(self) -> None:
        super().validate()
        if self.outer_clip_param is not None:
            check_number(self, "outer_clip_param", lambda x: x > 0, "> 0")

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return CoPPOLearner


class CoPPO(OnPolicyAlgorithm):
    """All agents improve at once by the clipped objective of the joint policy's ratio."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> CoPPOConfig:
        return CoPPOConfig()


class CoPPOLearner(SimultaneousLearner):
    """The simultaneous update, every agent's ratio weighed with those of all others."""

    @override(Learner)
    def compute_losses(
        self, *, fwd_out: dict[ModuleID, dict], batch: dict[ModuleID, Rows]
    ) -> dict[ModuleID, Tensor]:
        if CRITIC not in batch:
            self._weigh_with_others(fwd_out, batch)
        return super().compute_losses(fwd_out=fwd_out, batch=batch)

    @torch.no_grad()
    def _weigh_with_others(
        self, fwd_out: dict[ModuleID, dict], batch: dict[ModuleID, Rows]
    ) -> None:
        """Sets `CORRECTION` to the product of the other agents' ratios as they are now.

        All agents step on every minibatch, so that all ratios have moved since the last.
        Modules without a step on this one (frozen, or dead) have ratio 1.
        """
        log_ratios = {
            m: self.log_ratio(m, rows, fwd_out[m][Columns.ACTION_DIST_INPUTS])
            for m, rows in batch.items()
        }
        joint = torch.stack([x.sum(-1) for x in log_ratios.values()]).sum(0)
        for m, rows in batch.items():
            rows[CORRECTION] = torch.exp(joint[..., None] - log_ratios[m])

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        # The objective of CoPPO in [2]: the outer clip is on the others' product, the inner on
        # the whole ratio.
        outer = config.outer_clip_param
        return clipped_joint_surrogate(
            change.ratio,
            change.advantages,
            config.clip_param,
            others=change.correction,
            others_clip=config.clip_param / 2 if outer is None else outer,
        )
