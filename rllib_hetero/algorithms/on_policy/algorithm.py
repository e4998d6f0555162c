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
from rllib_hetero.algorithms.receiving import received
from rllib_hetero.algorithms.rollouts_ahead import Rollout, RolloutsAhead, sample_rollout
from rllib_hetero.algorithms.team_algorithm import TeamAlgorithm
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.algorithms.weights import send_actors
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.runners.posted import PostedFragment
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

ACTORS_UPDATE_TIMER = "actors_update_timer"
CRITIC_UPDATE_TIMER = "critic_update_timer"

Fragments = list[TeamFragment] | list[PostedFragment]

logger = logging.getLogger(__name__)


class OnPolicyAlgorithm(TeamAlgorithm):
    """Samples a batch with the current policies, trains on it, sends the new weights.

    With `overlap`, weights are sent as soon as the actors are updated, and the next batch is
    sampled while the critic is fitted. Runners have no critic: it is the same batch.

    Remote learners read fragments where remote runners have posted them. The driver then sees how
    many steps they have, and metrics.
    """

    @override(Algorithm)
    def setup(self, config: Any) -> None:
        super().setup(config)
        config = self.config
        # What RLlib's own runners return are episodes, which become a fragment in the driver.
        team_runners = issubclass(config.env_runner_cls, TeamEnvRunner)
        self._by_reference = config.num_learners > 0 and config.num_env_runners > 0 and team_runners
        if config.overlap:
            self.rollouts_ahead = RolloutsAhead(
                self.env_runner_group, config.sample_timeout_s, by_reference=self._by_reference
            )

    @override(Algorithm)
    def training_step(self) -> None:
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            fragments = self._sample()
        if not fragments:
            return
        ahead = self.rollouts_ahead
        if ahead is None:
            with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
                results = self._update(fragments)
            self._sync_weights()
        else:
            results = self._update_while_sampling(fragments, ahead)
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _update(self, fragments: Fragments, **kwargs: Any) -> list:
        config = self.config
        return self.learner_group.update(
            training_data=TeamTrainingData(episodes=fragments),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self._env_steps()},
            num_epochs=config.num_epochs,
            minibatch_size=config.minibatch_size,
            shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
            **kwargs,
        )

    def _update_while_sampling(self, fragments: Fragments, ahead: RolloutsAhead) -> list:
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

    def _sample(self) -> Fragments:
        """A batch; empty if no runner answered."""
        if self.rollouts_ahead is None and not self._by_reference:
            samples, runner_results = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                max_env_steps=self._enough_env_steps(),
                sample_timeout_s=self.config.sample_timeout_s,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
        else:
            rollouts = self._filled_up([])
            if self._by_reference:
                there = received(rollouts, self.learner_group)
                if len(there) < len(rollouts):
                    there = received(self._filled_up(there), self.learner_group)
                rollouts = there
            samples = [fragment for rollout in rollouts for fragment in rollout.fragments]
            runner_results = [rollout.metrics for rollout in rollouts]
        if not samples:
            self._without_samples(logger)
            return []
        self.metrics.aggregate(runner_results, key=ENV_RUNNER_RESULTS)
        return self._fragments(samples)

    def _filled_up(self, rollouts: list[Rollout]) -> list[Rollout]:
        """With as many further rounds as make a batch, or fewer if no runner answers."""
        while _env_steps_of(rollouts) < self._enough_env_steps() and (taken := self._round()):
            rollouts = [*rollouts, *taken]
        return rollouts

    def _round(self) -> list[Rollout]:
        """A rollout of every runner that answers. That of a first round may be under way."""
        ahead = self.rollouts_ahead
        if ahead is None:
            return self.env_runner_group.foreach_env_runner(
                lambda runner: sample_rollout(runner, by_reference=True),
                local_env_runner=False,
                timeout_seconds=self.config.sample_timeout_s,
            )
        # In the first round, of runners that are new or have been replaced.
        ahead.ask()
        taken = ahead.take()
        if not taken:
            # Those whose weights did not arrive sample nothing.
            self._sync_weights()
        return taken

    def _enough_env_steps(self) -> int:
        """How many steps make a batch: all of them, or nearly.

        A few steps may be missing where an environment failed. RLlib would then sample a whole
        further round from every runner, and train on almost twice the batch.
        """
        config = self.config
        envs = max(1, config.num_env_runners) * config.num_envs_per_env_runner
        a_round = config.get_rollout_fragment_length() * envs
        return config.total_train_batch_size - a_round // 10


def _env_steps_of(rollouts: list[Rollout]) -> int:
    # A fragment with a problem has none, and its runner says that it is enough.
    return sum(int(rollout.metrics[NUM_ENV_STEPS_SAMPLED]) for rollout in rollouts)
