"""What the on-policy algorithms share: settings, and the loop of sampling and learning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from ray.rllib.utils.schedules.scheduler import Scheduler
from ray.rllib.utils.typing import StateDict
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.checkpoint import export_policies
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.connectors.episodes_to_fragment import fragment_from_episodes
from rllib_hetero.connectors.fragments_to_batch import FragmentsToTeamBatch
from rllib_hetero.connectors.team_advantages import TeamAdvantages
from rllib_hetero.errors import TeamDataError
from rllib_hetero.runners.fragment import TeamFragment

logger = logging.getLogger(__name__)

RUNNER_PROGRESS = "team_runner_progress"


class OnPolicyConfig(TeamConfig):
    """Settings of the on-policy algorithms, with HARL's defaults (JMLR 2024, Appendix)."""

    capabilities: ClassVar[Capabilities]
    """What the algorithm can be used with."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.lr = 5e-4
        self.critic_lr: Any = None
        self.adam_epsilon = 1e-5
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
        self.entropy_coeff = 0.01
        self.vf_loss_coeff = 1.0
        self.vf_clip_param: float | None = 0.2
        self.vf_huber_delta: float | None = 10.0
        self.value_norm = True
        self.standardize_advantages = True
        self.update_order_seed: int | None = None

    @override(AlgorithmConfig)
    def training(
        self,
        *,
        critic_lr: Any = NotProvided,
        adam_epsilon: float = NotProvided,
        lambda_: float = NotProvided,
        critic_num_epochs: int | None = NotProvided,
        clip_param: float | None = NotProvided,
        entropy_coeff: float = NotProvided,
        vf_loss_coeff: float = NotProvided,
        vf_clip_param: float | None = NotProvided,
        vf_huber_delta: float | None = NotProvided,
        value_norm: bool = NotProvided,
        standardize_advantages: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings.

        RLlib's own, in `kwargs`, keep their meaning: `lr` (the actors'; a number, or a schedule
        such as [[0, 5e-4], [1_000_000, 0.0]] for linear decay over environment steps), `gamma`,
        `train_batch_size_per_learner` (environment steps), `num_epochs` (of each actor),
        `minibatch_size` (environment steps per learner; None is the whole batch), `grad_clip`.

        Args:
            critic_lr: The critic's learning rate or schedule. None: `lr`.
            adam_epsilon: Adam's epsilon.
            lambda_: Trace decay of generalised advantage estimation, in [0, 1].
            critic_num_epochs: Epochs of the critic. None: `num_epochs`.
            clip_param: How far from 1 the policy ratio is clipped; None where nothing is.
            entropy_coeff: Weight of the entropy bonus.
            vf_loss_coeff: Weight of the critic's loss.
            vf_clip_param: How far new values may move from old ones, in the critic's own
                (normalised) scale. None: no clipping.
            vf_huber_delta: Where the critic's loss turns from squared to absolute. None: squared.
            value_norm: Whether value targets are normalised by running statistics.
            standardize_advantages: Whether advantages are standardised, once per batch.
        """
        super().training(**kwargs)
        return self.set_given(
            critic_lr=critic_lr,
            adam_epsilon=adam_epsilon,
            lambda_=lambda_,
            critic_num_epochs=critic_num_epochs,
            clip_param=clip_param,
            entropy_coeff=entropy_coeff,
            vf_loss_coeff=vf_loss_coeff,
            vf_clip_param=vf_clip_param,
            vf_huber_delta=vf_huber_delta,
            value_norm=value_norm,
            standardize_advantages=standardize_advantages,
        )

    def set_given(self, **settings: Any) -> Self:
        """Sets those of the settings that are not RLlib's `NotProvided`."""
        for name, value in settings.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    @override(AlgorithmConfig)
    def validate(self) -> None:
        super().validate()
        # Shared by all learners, and part of the run's record even where no seed was given.
        if self.seed is not None:
            self.update_order_seed = self.seed
        elif self.update_order_seed is None:
            self.update_order_seed = int(np.random.SeedSequence().generate_state(1)[0])
        if self.in_evaluation:
            return
        self._validate_ranges()
        self._validate_batch()
        if self.critic_lr is not None:
            Scheduler.validate(
                fixed_value_or_schedule=self.critic_lr,
                setting_name="critic_lr",
                description="learning rate",
            )

    def _validate_ranges(self) -> None:
        clips = type(self)().clip_param is not None
        if clips:
            self.check_number("clip_param", lambda x: x > 0, "> 0")
        elif self.clip_param is not None:
            self._value_error(
                f"`clip_param` is {self.clip_param!r}, but {self.algo_class.__name__} does not "
                "clip its policy ratio: leave it out of config.training(...). The critic's is "
                "config.training(vf_clip_param=...)."
            )
        self.check_number("lambda_", lambda x: 0 <= x <= 1, "in [0, 1]")
        self.check_number("gamma", lambda x: 0 <= x <= 1, "in [0, 1]")
        self.check_number("entropy_coeff", lambda x: x >= 0, ">= 0")
        self.check_number("vf_loss_coeff", lambda x: x >= 0, ">= 0")
        self.check_number("num_epochs", lambda x: x >= 1, ">= 1")
        if self.critic_num_epochs is not None:
            self.check_number("critic_num_epochs", lambda x: x >= 1, ">= 1")
        for name in ("vf_clip_param", "vf_huber_delta"):
            if getattr(self, name) is not None:
                self.check_number(name, lambda x: x > 0, "> 0")

    def check_number(self, name: str, good: Callable[[float], bool], wanted: str) -> None:
        """Raises unless the setting is a number in its range.

        Args:
            name: Of an argument of `training()`.
            good: Whether a number is in range.
            wanted: The range in words, for the message.
        """
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or not good(value):
            self._value_error(
                f"`{name}` is {value!r}, but must be a number {wanted}. Mend it with "
                f"config.training({name}=...)."
            )

    def _validate_batch(self) -> None:
        batch = self.train_batch_size_per_learner
        if self.minibatch_size is not None and self.minibatch_size > batch:
            self._value_error(
                f"`minibatch_size` ({self.minibatch_size}) is larger than "
                f"`train_batch_size_per_learner` ({batch}). Lower it with "
                "config.training(minibatch_size=...), or set it to None for the whole batch."
            )
        envs = max(1, self.num_env_runners) * self.num_envs_per_env_runner
        if self.num_learners > envs:
            self._value_error(
                f"{self.num_learners} learners share the batch by whole environments, but there "
                f"are only {envs}. Set config.env_runners(num_envs_per_env_runner=...) higher or "
                "config.learners(num_learners=...) lower."
            )
        self.validate_train_batch_size_vs_rollout_fragment_length()

    @override(AlgorithmConfig)
    def build_learner_connector(
        self, input_observation_space: Any, input_action_space: Any, device: Any = None
    ) -> LearnerConnectorPipeline:
        """The user's own pieces, which see the fragments, then ours."""
        custom: list[Any] = []
        if self._learner_connector is not None:
            built = self._learner_connector(input_observation_space, input_action_space)
            custom = list(built) if isinstance(built, (list, tuple)) else [built]
        ours = [
            FragmentsToTeamBatch(layout=self.layout, max_seq_len=self.max_seq_len, device=device),
            TeamAdvantages(
                layout=self.layout,
                gamma=self.gamma,
                lambda_=self.lambda_,
                standardize_advantages=self.standardize_advantages,
                max_seq_len=self.max_seq_len,
            ),
        ]
        return LearnerConnectorPipeline(
            connectors=[*custom, *ours],
            input_observation_space=input_observation_space,
            input_action_space=input_action_space,
        )


class OnPolicyAlgorithm(Algorithm):
    """Samples a batch with the current policies, trains on it, sends the new weights."""

    @override(Algorithm)
    def training_step(self) -> None:
        config = self.config
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            samples, runner_results = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                max_env_steps=self._enough_env_steps(),
                sample_timeout_s=config.sample_timeout_s,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
            if not samples:
                logger.warning(
                    "No env runner returned data; this iteration trains nothing. If this goes "
                    "on, look at the runners' logs, raise "
                    "config.env_runners(sample_timeout_s=...), or allow restarts with "
                    "config.fault_tolerance(restart_failed_env_runners=True)."
                )
                return
            self.metrics.aggregate(runner_results, key=ENV_RUNNER_RESULTS)
            fragments = self._fragments(samples)

        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                training_data=TeamTrainingData(episodes=fragments),
                timesteps={
                    NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(
                        (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
                    ),
                },
                num_epochs=config.num_epochs,
                minibatch_size=config.minibatch_size,
                shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)

        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group,
                policies=list(config.layout.groups),
                inference_only=True,
            )

    def _enough_env_steps(self) -> int:
        """How many steps make a batch: all of them, or nearly.

        A few steps may be missing where an environment failed. RLlib would then sample a whole
        further round from every runner, and train on almost twice the batch.
        """
        config = self.config
        envs = max(1, config.num_env_runners) * config.num_envs_per_env_runner
        a_round = config.get_rollout_fragment_length() * envs
        return config.total_train_batch_size - a_round // 10

    def _fragments(self, samples: list) -> list[TeamFragment]:
        """The samples as fragments, none of which has a problem.

        Raises:
            TeamDataError: If one has. Nothing has been trained on this batch then.
        """
        if isinstance(samples[0], MultiAgentEpisode):
            samples = [fragment_from_episodes(samples, self.config.layout)]
        for fragment in samples:
            if fragment.problem:
                raise TeamDataError(fragment.problem)
        return samples

    # ---- resuming ---------------------------------------------------------------------------

    @override(Algorithm)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> StateDict:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self.env_runner_group.num_remote_env_runners():
            # RLlib saves its local runner only; the remote ones hold the seeds' counters.
            state[RUNNER_PROGRESS] = [
                progress
                for progress in self.env_runner_group.foreach_env_runner(
                    _get_progress, local_env_runner=False, timeout_seconds=30.0
                )
                if progress is not None
            ]
        return state

    @override(Algorithm)
    def set_state(self, state: StateDict) -> None:
        for runners in (self.env_runner_group, self.eval_env_runner_group):
            if runners is not None:
                runners.foreach_env_runner(_accept_earlier_weights)
        super().set_state(state)
        saved = {p["worker_index"]: p for p in state.get(RUNNER_PROGRESS, [])}
        if saved:
            self.env_runner_group.foreach_env_runner(
                lambda runner: _set_progress(runner, saved.get(runner.worker_index)),
                local_env_runner=False,
            )

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        restored = super().restore_env_runners(env_runner_group)
        if restored:
            # A restarted runner counts from 0 again; no runner has had this many episodes, so
            # none of its earlier seeds comes back.
            steps = int(
                self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
            )
            env_runner_group.foreach_env_runner(
                lambda runner: _skip_seeds(runner, steps),
                remote_worker_ids=restored,
                local_env_runner=False,
            )
        return restored

    @override(Algorithm)
    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """As RLlib's, with the policies beside it in a form that needs no Ray to read."""
        saved = super().save_to_path(path, **kwargs)
        # RLlib returns the path without the URI's scheme.
        export_policies(self, str(path or saved), filesystem=kwargs.get("filesystem"))
        return saved


def _accept_earlier_weights(runner: Any) -> None:
    """Runners keep weights that are newer than those they are sent, but for a first time."""
    runner._weights_seq_no = 0


def _get_progress(runner: Any) -> StateDict | None:
    return runner.get_progress() if hasattr(runner, "get_progress") else None


def _set_progress(runner: Any, progress: StateDict | None) -> None:
    if progress is not None and hasattr(runner, "set_progress"):
        runner.set_progress(progress)


def _skip_seeds(runner: Any, steps: int) -> None:
    if hasattr(runner, "set_progress"):
        progress = runner.get_progress()
        number = [steps] * len(progress["episode_number"])
        runner.set_progress({**progress, "num_samples": steps, "episode_number": number})
