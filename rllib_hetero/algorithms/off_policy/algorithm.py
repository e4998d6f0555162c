"""The loop of sampling and learning that the off-policy algorithms share."""

from __future__ import annotations

import logging
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
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

from rllib_hetero.algorithms.off_policy.replay_data import ReplayData
from rllib_hetero.algorithms.team_algorithm import TeamAlgorithm, warn_of_no_samples
from rllib_hetero.runners.fragment import TeamFragment

logger = logging.getLogger(__name__)


class OffPolicyAlgorithm(TeamAlgorithm):
    """Samples a few steps, hands them to the learners' replay, makes the updates that are due."""

    @override(Algorithm)
    def setup(self, config: Any) -> None:
        # Later than the warm-up only where a run goes on without its replay.
        self._learning_starts_at = self.config.num_steps_sampled_before_learning_starts
        super().setup(config)

    @override(Algorithm)
    def training_step(self) -> None:
        config, before = self.config, self._env_steps()
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            fragments = self._sample(
                random_actions=before < config.num_steps_sampled_before_learning_starts
            )
        if not fragments:
            return
        now, start = self._env_steps(), self._learning_starts_at
        num_updates = config.updates_due(now - start) - config.updates_due(before - start)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                training_data=ReplayData.of(fragments, config),
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: now},
                num_updates=num_updates,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        if not num_updates:
            return
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group,
                policies=list(config.layout.groups),
                inference_only=True,
            )

    @override(Algorithm)
    def _create_local_replay_buffer_if_necessary(self, config: Any) -> None:
        """None: the replay is the learners'."""

    def _sample(self, *, random_actions: bool) -> list[TeamFragment]:
        """One rollout of every runner; empty if none answered."""
        samples, runner_results = synchronous_parallel_sample(
            worker_set=self.env_runner_group,
            sample_timeout_s=self.config.sample_timeout_s,
            random_actions=random_actions,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        if not samples:
            warn_of_no_samples(logger)
            return []
        self.metrics.aggregate(runner_results, key=ENV_RUNNER_RESULTS)
        return self._fragments(samples)

    def _env_steps(self) -> int:
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))
