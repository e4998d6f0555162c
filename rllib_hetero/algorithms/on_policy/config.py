"""What the on-policy algorithms are configured with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.overlap import check_overlap
from rllib_hetero.algorithms.ranges import check_number, check_schedule
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.connectors.fragments_to_batch import FragmentsToTeamBatch
from rllib_hetero.connectors.team_advantages import TeamAdvantages
from rllib_hetero.modules.actor import MODEL_DEFAULTS, TeamActor
from rllib_hetero.modules.critic import RETURN_NORM, TeamCritic
from rllib_hetero.runners.team_env_runner import TeamEnvRunner


class OnPolicyConfig(TeamConfig):
    """Settings of the on-policy algorithms, with HARL's defaults (JMLR 2024, Appendix)."""

    model_defaults: ClassVar[Mapping[str, Any]] = MODEL_DEFAULTS
    per_module = TeamConfig.per_module | {
        "clip_param",
        "entropy_coeff",
        "vf_loss_coeff",
        "vf_clip_param",
        "vf_huber_delta",
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.lr = 5e-4
        self.grad_clip = 10.0
        self.grad_clip_by = "global_norm"
        self.gamma = 0.99
        self.lambda_ = 0.95
        self.train_batch_size_per_learner = 4000
        self.num_epochs = 5
        self.critic_num_epochs: int | None = None
        self.minibatch_size = None
        self.shuffle_batch_per_epoch = True
        self.rollout_fragment_length = "auto"
        self.clip_param: float | None = 0.2
        self.entropy_coeff: float | list = 0.01
        self.vf_loss_coeff = 1.0
        self.vf_clip_param: float | None = 0.2
        self.vf_huber_delta: float | None = 10.0
        self.value_norm = True
        self.standardize_advantages = True
        self.reward_scaling = False
        self.overlap = False

    @override(TeamConfig)
    def training(
        self,
        *,
        lambda_: float = NotProvided,
        critic_num_epochs: int | None = NotProvided,
        clip_param: float | None = NotProvided,
        entropy_coeff: float | list = NotProvided,
        vf_loss_coeff: float = NotProvided,
        vf_clip_param: float | None = NotProvided,
        vf_huber_delta: float | None = NotProvided,
        value_norm: bool = NotProvided,
        standardize_advantages: bool = NotProvided,
        reward_scaling: bool = NotProvided,
        overlap: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings.

        RLlib's own, in `kwargs`, keep their meaning: `lr` (the actors'; a number, or a schedule
        such as [[0, 5e-4], [1_000_000, 0.0]] for linear decay over environment steps), `gamma`,
        `train_batch_size_per_learner` (environment steps), `num_epochs` (of each actor),
        `minibatch_size` (environment steps per learner; None is the whole batch), `grad_clip`.

        Args:
            lambda_: Trace decay of generalised advantage estimation, in [0, 1]; of TD(lambda) in
                COMA.
            critic_num_epochs: Epochs of the critic. None: `num_epochs`.
            clip_param: How far from 1 the policy ratio is clipped; None where nothing is.
            entropy_coeff: Weight of the entropy bonus, a number or a schedule over environment
                steps such as [[0, 0.01], [1_000_000, 0.0]].
            vf_loss_coeff: Weight of the critic's loss.
            vf_clip_param: How far new values may move from old ones, in the critic's own
                (normalised) scale. None: no clipping.
            vf_huber_delta: Where the critic's loss turns from squared to absolute. None: squared.
            value_norm: Whether value targets are normalised by running statistics.
            standardize_advantages: Whether advantages are standardised, once per batch.
            reward_scaling: Whether rewards are divided by the running standard deviation of
                discounted returns before anything is made of them. Reported returns are not.
            overlap: Whether remote runners begin the next rollout as soon as the actors are
                updated, while the critic is still fitted; the numbers stay the same. False:
                sampling and updates take turns.
        """
        super().training(**kwargs)
        return self.set_given(
            lambda_=lambda_,
            critic_num_epochs=critic_num_epochs,
            clip_param=clip_param,
            entropy_coeff=entropy_coeff,
            vf_loss_coeff=vf_loss_coeff,
            vf_clip_param=vf_clip_param,
            vf_huber_delta=vf_huber_delta,
            value_norm=value_norm,
            standardize_advantages=standardize_advantages,
            reward_scaling=reward_scaling,
            overlap=overlap,
        )

    @override(TeamConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        self._validate_ranges()
        self._validate_batch()
        check_overlap(self)
        # What RLlib asks each runner for and sends it after an iteration: the states of its
        # connectors, of which the team env runner has none. See `send_actors`.
        self._dont_auto_sync_env_runner_states = issubclass(self.env_runner_cls, TeamEnvRunner)

    def _validate_ranges(self) -> None:
        clips = type(self)().clip_param is not None
        if clips:
            check_number(self, "clip_param", lambda x: x > 0, "> 0")
        elif self.clip_param is not None:
            self._value_error(
                f"`clip_param` is {self.clip_param!r}, but {self.algo_class.__name__} does not "
                "clip its policy ratio: leave it out of config.training(...). The critic's is "
                "config.training(vf_clip_param=...)."
            )
        check_number(self, "lambda_", lambda x: 0 <= x <= 1, "in [0, 1]")
        check_number(self, "gamma", lambda x: 0 <= x <= 1, "in [0, 1]")
        check_schedule("entropy_coeff", self.entropy_coeff, least=0.0)
        check_number(self, "vf_loss_coeff", lambda x: x >= 0, ">= 0")
        check_number(self, "num_epochs", lambda x: x >= 1, ">= 1")
        if self.critic_num_epochs is not None:
            check_number(self, "critic_num_epochs", lambda x: x >= 1, ">= 1")
        for name in ("vf_clip_param", "vf_huber_delta"):
            if getattr(self, name) is not None:
                check_number(self, name, lambda x: x > 0, "> 0")

    def _validate_batch(self) -> None:
        batch = self.train_batch_size_per_learner
        if self.minibatch_size is not None and self.minibatch_size > batch:
            self._value_error(
                f"`minibatch_size` ({self.minibatch_size}) is larger than "
                f"`train_batch_size_per_learner` ({batch}). Lower it with "
                "config.training(minibatch_size=...), or set it to None for the whole batch."
            )
        self.validate_train_batch_size_vs_rollout_fragment_length()

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=TeamActor)

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        """The centralised critic. It stays with the learner; runners never build it."""
        return RLModuleSpec(
            module_class=TeamCritic,
            observation_space=self.layout.team.critic_space,
            # RLlib asks every module for an action space; a critic has no actions.
            action_space=gym.spaces.Box(-np.inf, np.inf, (1,), np.float32),
            learner_only=True,
            model_config=self.model_config | ({RETURN_NORM: True} if self.reward_scaling else {}),
        )

    @override(AlgorithmConfig)
    def build_learner_connector(
        self, input_observation_space: Any, input_action_space: Any, device: Any = None
    ) -> LearnerConnectorPipeline:
        """The user's own pieces, which see the fragments, then ours."""
        custom: list[Any] = []
        if self._learner_connector is not None:
            built = self._learner_connector(input_observation_space, input_action_space)
            custom = list(built) if isinstance(built, (list, tuple)) else [built]
        return LearnerConnectorPipeline(
            connectors=[*custom, *self.build_pieces(device)],
            input_observation_space=input_observation_space,
            input_action_space=input_action_space,
        )

    def build_pieces(self, device: Any) -> list[Any]:
        """What makes the team's batch from fragments, piece after piece."""
        return [
            FragmentsToTeamBatch(layout=self.layout, max_seq_len=self.max_seq_len, device=device),
            TeamAdvantages(
                layout=self.layout,
                gamma=self.gamma,
                lambda_=self.lambda_,
                standardize_advantages=self.standardize_advantages,
                max_seq_len=self.max_seq_len,
                reward_scaling=self.reward_scaling,
            ),
        ]
