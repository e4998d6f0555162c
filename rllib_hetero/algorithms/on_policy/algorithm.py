"""The loop of sampling and learning that the on-policy algorithms share."""

from __future__ import annotations

import logging
import time
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rllib_hetero.algorithms.each_learner import each_learner
from rllib_hetero.algorithms.rollouts_ahead import RolloutsAhead
from rllib_hetero.algorithms.team_algorithm import TeamAlgorithm
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.algorithms.weights import send_actors
from rllib_hetero.runners.fragment import TeamFragment

ACTORS_UPDATE_TIMER = "actors_update_timer"
CRITIC_UPDATE_TIMER = "critic_update_timer"

logger = logging.getLogger(__name__)


class OnPolicyAlgorithm(TeamAlgorithm):
    """Samples a batch with the current policies, trains on it, sends the new weights.

    With `overlap`, weights are sent as soon as the actors are updated, and the next batch is
    sampled while the critic is fitted. Runners have no critic: it is the same batch.
    """

    @override(Algorithm)
    def setup(self, config: Any) -> None:
        super().setup(config)
        if self.config.overlap:
            self.rollouts_ahead = RolloutsAhead(self.env_runner_group, self.config.sample_timeout_s)

    @override(Algorithm)
    def training_step(self) -> None:
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            ahead = self.rollouts_ahead
            fragments = self._sample() if ahead is None else self._take(ahead)
        if not fragments:
            return
        if ahead is None:
            with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
                results = self._update(fragments)
            self._sync_weights()
        else:
            results = self._update_while_sampling(fragments, ahead)
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _update(self, fragments: list[TeamFragment], **kwargs: Any) -> list:
        config = self.config
        return self.learner_group.update(
            training_data=TeamTrainingData(episodes=fragments),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self._env_steps()},
            num_epochs=config.num_epochs,
            minibatch_size=config.minibatch_size,
            shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
            **kwargs,
        )

    def _update_while_sampling(self, fragments: list[TeamFragment], ahead: RolloutsAhead) -> list:
        start = time.perf_counter()
        ahead.policy = self._update(fragments, actors_only=True)[0]
        actors = time.perf_counter() - start
        self._sync_weights()
        ahead.ask()
        start = time.perf_counter()
        results = each_learner(self.learner_group, lambda learner: learner.finish_update())
        critic = time.perf_counter() - start
        for name, seconds in (
            (ACTORS_UPDATE_TIMER, actors),
            (CRITIC_UPDATE_TIMER, critic),
            (LEARNER_UPDATE_TIMER, actors + critic),
        ):
            self.metrics.log_value((TIMERS, name), seconds, reduce="ema")
        return results

    def _sync_weights(self) -> None:
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            send_actors(
                self,
                env_steps=self._env_steps(),
                timeout_s=self.config.sample_timeout_s if self.config.overlap else 0.0,
            )

    def _env_steps(self) -> int:
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))

    # ---- sampling ---------------------------------------------------------------------------

    def _sample(self) -> list[TeamFragment]:
        """A batch, sampled now; empty if no runner answered."""
        samples, runner_results = synchronous_parallel_sample(
            worker_set=self.env_runner_group,
            max_env_steps=self._enough_env_steps(),
            sample_timeout_s=self.config.sample_timeout_s,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        return self._looked_through(samples, runner_results)

    def _take(self, ahead: RolloutsAhead) -> list[TeamFragment]:
        """A batch, of which the first round may be under way; empty if no runner answered."""
        samples: list[TeamFragment] = []
        runner_results: list[Any] = []
        steps = 0
        while steps < self._enough_env_steps():
            # In the first round, of runners that are new or have been replaced.
            ahead.ask()
            taken = ahead.take()
            if not taken:
                # Those whose weights did not arrive sample nothing.
                self._sync_weights()
                break
            for rollout in taken:
                samples += rollout.fragments
                runner_results.append(rollout.metrics)
                # A fragment with a problem has none, and says that it is enough.
                steps += int(rollout.metrics[NUM_ENV_STEPS_SAMPLED])
        return self._looked_through(samples, runner_results)

    def _looked_through(self, samples: list, runner_results: list) -> list[TeamFragment]:
        if not samples:
            self._without_samples(logger)
            return []
        self.metrics.aggregate(runner_results, key=ENV_RUNNER_RESULTS)
        return self._fragments(samples)

    def _enough_env_steps(self) -> int:
        """How many steps make a batch: all of them, or nearly.

        A few steps may be missing where an environment failed. RLlib would then sample a whole
        further round from every runner, and train on almost twice the batch.
        """
        config = self.config
        envs = max(1, config.num_env_runners) * config.num_envs_per_env_runner
        a_round = config.get_rollout_fragment_length() * envs
        return config.total_train_batch_size - a_round // 10
