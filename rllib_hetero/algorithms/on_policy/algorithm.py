"""The loop of sampling and learning that the on-policy algorithms share."""

from __future__ import annotations

import logging

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

from rllib_hetero.algorithms.team_algorithm import TeamAlgorithm
from rllib_hetero.algorithms.training_data import TeamTrainingData

logger = logging.getLogger(__name__)


class OnPolicyAlgorithm(TeamAlgorithm):
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
                self._without_samples(logger)
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
