"""MAAC: multi-actor-attention-critic.

[1] Iqbal and Sha: Actor-Attention-Critic for Multi-Agent Reinforcement Learning. ICML 2019.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.functional import num_choices
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.off_policy.attention import AttentionLearner
from rllib_hetero.modules.attention_critic import (
    ATTENTION_DEFAULTS,
    OBSERVATION_SIZES,
    AttentionCritic,
    check_heads,
)
from rllib_hetero.modules.categorical_actor import CATEGORICAL_DEFAULTS, CategoricalActor


class MAACConfig(OffPolicyConfig):
    """Configures MAAC, with its authors' settings. Actions must be Discrete.

    ```python
    from rllib_hetero import MAACConfig

    config = (
        MAACConfig()
        .environment("cooperative_mpe", env_config={"scenario": "rover_tower"})
        .env_runners(num_envs_per_env_runner=12)
        .training(alpha=0.01)
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("MAAC", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Iqbal and Sha, ICML 2019",
        update="all at once",
        correction="none: everybody's current actions in Q",
        step="soft policy gradient with a counterfactual baseline, attention critic",
        actions=("Discrete",),
        pictures=False,
        recurrent=False,
        global_state=False,
    )

    policy_family = "categorical"
    actor_attributes = ("exploration", "forward_target", "target_pairs", "input_norm")
    model_defaults = ATTENTION_DEFAULTS | CATEGORICAL_DEFAULTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MAAC)
        self.lr = 1e-3
        self.critic_lr = 1e-3
        self.grad_clip = 0.5
        # Four updates of 1024 transitions for each 100 steps.
        self.train_batch_size_per_learner = 1024
        self.training_intensity = 40.96
        self.num_steps_sampled_before_learning_starts = 1024
        self.rollout_fragment_length = 25
        self.critic_grad_clip: float | None = 10.0
        self.critic_weight_decay = 1e-3
        self.alpha = 0.01
        self.attention_reg = 1e-3
        self.logit_reg = 1e-3
        self.scale_attention_gradients = True
        self.standardize_rewards = True

    @override(OffPolicyConfig)
    def training(
        self,
        *,
        alpha: float = NotProvided,
        critic_grad_clip: float | None = NotProvided,
        critic_weight_decay: float = NotProvided,
        attention_reg: float = NotProvided,
        logit_reg: float = NotProvided,
        scale_attention_gradients: bool = NotProvided,
        standardize_rewards: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `OffPolicyConfig.training` for those not named here.

        `grad_clip` is the actors'.

        Args:
            alpha: The temperature: what a nat of entropy is worth, in (standardised) rewards.
            critic_grad_clip: Times the number of agents, what the norm of the critic's gradient
                is clipped at. None: not at all.
            critic_weight_decay: Of the critic's Adam, as an L2 penalty in the gradient.
            attention_reg: Weight of the penalty on the squares of attention logits.
            logit_reg: Weight of the penalty on the squares of the policies' logits.
            scale_attention_gradients: Whether the gradients of what serves all n agents are
                divided by n.
            standardize_rewards: Whether each agent's rewards are standardised by the mean and
                deviation over the replay. Turn it off where episodes end by what agents do: a mean
                that is taken off makes longer episodes better or worse.
        """
        super().training(**kwargs)
        return self.set_given(
            alpha=alpha,
            critic_grad_clip=critic_grad_clip,
            critic_weight_decay=critic_weight_decay,
            attention_reg=attention_reg,
            logit_reg=logit_reg,
            scale_attention_gradients=scale_attention_gradients,
            standardize_rewards=standardize_rewards,
        )

    @property
    @override(TeamConfig)
    def returns_end_with_lives(self) -> bool:
        return True

    @override(OffPolicyConfig)
    def exploration_of(self, module_id: ModuleID) -> float:
        return 0.0  # Entropy explores.

    @override(OffPolicyConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        for name in ("alpha", "critic_weight_decay", "attention_reg", "logit_reg"):
            check_number(self, name, lambda x: x >= 0, ">= 0")
        if self.critic_grad_clip is not None:
            check_number(self, "critic_grad_clip", lambda x: x > 0, "> 0, or None")
        for name in ("scale_attention_gradients", "standardize_rewards"):
            if not isinstance(getattr(self, name), bool):
                self._value_error(
                    f"`{name}` must be True or False, got {getattr(self, name)!r}. Set it with "
                    f"config.training({name}=...)."
                )
        if self.standardize_rewards and self.n_step != 1:
            self._value_error(
                f"Rewards are standardised one by one, and returns over `n_step` {self.n_step} are "
                "sums of them: leave out config.training(n_step=...), or set "
                "config.training(standardize_rewards=False)."
            )
        model = dict(self.model_defaults) | self.model_config
        try:
            check_heads(model["attention_size"], model["num_attention_heads"])
        except ValueError as error:
            self._value_error(str(error))

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=CategoricalActor)

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        team = self.layout.team
        sizes = [team.row_spaces[a].shape[0] for a in team.agents]
        return RLModuleSpec(
            module_class=AttentionCritic,
            observation_space=gym.spaces.Box(-np.inf, np.inf, (sum(sizes),), np.float32),
            action_space=gym.spaces.MultiDiscrete(
                [num_choices(team.moves[a].flat) for a in team.agents]
            ),
            learner_only=True,
            model_config=self.model_config | {OBSERVATION_SIZES: sizes},
        )

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return MAACLearner


class MAAC(OffPolicyAlgorithm):
    """Agents learn from their own rewards, and attend to whom it matters to attend to."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> MAACConfig:
        return MAACConfig()


class MAACLearner(AttentionLearner):
    """Fit all agents' Q, then all policies climb their own, then the targets follow."""
