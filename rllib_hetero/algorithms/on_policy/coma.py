"""COMA: counterfactual multi-agent policy gradients.

[1] Foerster, Farquhar, Afouras, Nardelli, Whiteson: Counterfactual Multi-Agent Policy Gradients.
    AAAI 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.config import OnPolicyConfig
from rllib_hetero.algorithms.ranges import check_integer, check_number
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.connectors.following import WhatFollows
from rllib_hetero.connectors.fragments_to_batch import FragmentsToTeamBatch
from rllib_hetero.functional import num_choices
from rllib_hetero.learners.on_policy.counterfactual import CounterfactualLearner
from rllib_hetero.modules.actor import MODEL_DEFAULTS
from rllib_hetero.modules.counterfactual_critic import CounterfactualCritic

_UNUSED = ("critic_recurrent", "action_projection", "input_norm")


class COMAConfig(OnPolicyConfig):
    """Configures COMA. Actions must be Discrete.

    ```python
    from rllib_hetero import COMAConfig

    config = (
        COMAConfig()
        .environment(
            "mpe", env_config={"scenario": "simple_spread", "continuous_actions": False}
        )
        .env_runners(num_env_runners=2, num_envs_per_env_runner=4)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("COMA", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Foerster et al., AAAI 2018",
        update="all at once",
        correction="none: others' actions in Q",
        step="policy gradient with a counterfactual baseline, one step",
        actions=("Discrete",),
    )
    policy_family = "categorical"
    model_defaults: ClassVar[Mapping[str, Any]] = {
        k: v for k, v in MODEL_DEFAULTS.items() if k not in _UNUSED
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or COMA)
        self.lambda_ = 0.8
        self.train_batch_size_per_learner = 1000
        self.num_epochs = 1
        self.critic_num_epochs: int | None = 20
        self.clip_param = None
        self.vf_clip_param = None
        self.vf_huber_delta = None
        self.tau = 1.0
        self.target_network_update_freq = 200
        self.individual_rewards = False

    @override(OnPolicyConfig)
    def training(
        self,
        *,
        tau: float = NotProvided,
        target_network_update_freq: int = NotProvided,
        individual_rewards: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `OnPolicyConfig.training` for those not named here.

        Args:
            tau: How far the target critic moves towards the critic, in (0, 1].
            target_network_update_freq: After how many of its gradient steps the critic's target
                moves.
            individual_rewards: Whether each agent learns the return of its own rewards, until it
                dies. By default all learn the team's.
        """
        super().training(**kwargs)
        return self.set_given(
            tau=tau,
            target_network_update_freq=target_network_update_freq,
            individual_rewards=individual_rewards,
        )

    @property
    @override(TeamConfig)
    def returns_end_with_lives(self) -> bool:
        return self.individual_rewards

    @override(OnPolicyConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_number(self, "tau", lambda x: 0 < x <= 1, "in (0, 1]")
        check_integer(self, "target_network_update_freq", 1)
        if not isinstance(self.individual_rewards, bool):
            self._value_error(
                f"`individual_rewards` must be True or False, got {self.individual_rewards!r}. "
                "Set it with config.training(individual_rewards=...)."
            )
        if self.vf_clip_param is not None:
            self._value_error(
                f"`vf_clip_param` is {self.vf_clip_param!r}, but COMA's critic is held back by its "
                "target network instead: leave it out of config.training(...)."
            )
        if self.reward_scaling:
            self._value_error(
                "COMA's critic takes rewards as they are: remove "
                "config.training(reward_scaling=True)."
            )
        if self.overlap:
            self._value_error(
                "With `overlap`, runners sample with the new actors while the critic is fitted, "
                "and COMA's critic is fitted before them: remove config.training(overlap=True)."
            )

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        team = self.layout.team
        return RLModuleSpec(
            module_class=CounterfactualCritic,
            observation_space=team.critic_space,
            action_space=gym.spaces.MultiDiscrete(
                [num_choices(team.moves[a].flat) for a in team.agents]
            ),
            learner_only=True,
            model_config=self.model_config,
        )

    @override(OnPolicyConfig)
    def build_pieces(self, device: Any) -> list[Any]:
        return [
            FragmentsToTeamBatch(layout=self.layout, max_seq_len=self.max_seq_len, device=device),
            WhatFollows(layout=self.layout, device=device),
        ]

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return COMALearner


class COMA(OnPolicyAlgorithm):
    """All agents improve at once, each by what its own action added."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> COMAConfig:
        return COMAConfig()


class COMALearner(CounterfactualLearner):
    """Fit Q to its TD(lambda) targets; then A_i = Q(s, a) - sum_b pi_i(b) Q(s, (b, a_-i))."""
