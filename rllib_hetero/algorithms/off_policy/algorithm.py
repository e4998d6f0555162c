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
from ray.rllib.utils.typing import StateDict

from rllib_hetero.algorithms.off_policy.replay_data import ReplayData
from rllib_hetero.algorithms.off_policy.replay_files import (
    replay_bytes,
    restore_replay,
    save_replay,
)
from rllib_hetero.algorithms.rollouts_ahead import RolloutsAhead
from rllib_hetero.algorithms.team_algorithm import TeamAlgorithm
from rllib_hetero.runners.fragment import TeamFragment

LEARNING_STARTS_AT = "learning_starts_at"
SMALL_REPLAY = 1_000_000_000
"""Bytes of a replay that is put into checkpoints unless told otherwise."""

logger = logging.getLogger(__name__)


class OffPolicyAlgorithm(TeamAlgorithm):
    """Samples a few steps, hands them to the learners' replay, makes the updates that are due.

    With `overlap`, the steps of the next iteration are sampled meanwhile, by the policies that
    the runners have: those of the iteration before.
    """

    @override(Algorithm)
    def setup(self, config: Any) -> None:
        # Later than the warm-up only where a run goes on without its replay.
        self._learning_starts_at = self.config.num_steps_sampled_before_learning_starts
        super().setup(config)
        if self.config.overlap:
            self.rollouts_ahead = RolloutsAhead(self.env_runner_group, self.config.sample_timeout_s)

    @override(Algorithm)
    def training_step(self) -> None:
        config, before = self.config, self._env_steps()
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            fragments = self._sample()
        if not fragments:
            return
        if self.rollouts_ahead is not None:
            self.rollouts_ahead.ask(random_actions=self._warms_up())
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
                # RLlib sends none to a runner that has not yet said that it has the last ones.
                timeout_seconds=config.sample_timeout_s if config.overlap else 0.0,
            )

    # ---- resuming ---------------------------------------------------------------------------

    @override(TeamAlgorithm)
    def _save_beside(self, path: str, filesystem: Any, previous: str | None) -> None:
        super()._save_beside(path, filesystem, previous)
        if not self._keeps_replay():
            logger.warning(
                "The checkpoint %s does not hold the replay: a run resumed from it collects %d "
                "steps anew before its next update. config.training(replay_in_checkpoint=True) "
                "puts it in.",
                path,
                self.config.num_steps_sampled_before_learning_starts,
            )
        elif not save_replay(self.learner_group, path, filesystem, previous):
            logger.warning(
                "The checkpoint %s does not hold the replay: a learner on another machine does "
                "not see this folder. Save to a folder that all machines share, or to a URI.",
                path,
            )

    def _keeps_replay(self) -> bool:
        wanted = self.config.replay_in_checkpoint
        if wanted is None:
            return replay_bytes(self.learner_group) <= SMALL_REPLAY
        return wanted

    @override(Algorithm)
    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, *args, **kwargs)
        if kwargs.get("component"):
            return
        if restore_replay(self.learner_group, str(path), kwargs.get("filesystem")):
            return
        steps = self.config.num_steps_sampled_before_learning_starts
        self._learning_starts_at = self._env_steps() + steps
        logger.warning(
            "The checkpoint %s holds no replay for these learners: %d steps are sampled with its "
            "policies before the next update.",
            path,
            steps,
        )

    @override(TeamAlgorithm)
    def get_state(self, components: Any = None, **kwargs: Any) -> StateDict:
        state = super().get_state(components, **kwargs)
        return state | {LEARNING_STARTS_AT: self._learning_starts_at}

    @override(TeamAlgorithm)
    def set_state(self, state: StateDict) -> None:
        super().set_state(state)
        self._learning_starts_at = state.get(LEARNING_STARTS_AT, self._learning_starts_at)

    @override(Algorithm)
    def _create_local_replay_buffer_if_necessary(self, config: Any) -> None:
        """None: the replay is the learners'."""

    def _sample(self) -> list[TeamFragment]:
        """One rollout of every runner; empty if none answered."""
        if self.rollouts_ahead is not None:
            # Of runners that are new, or have been replaced: the others are at it.
            self.rollouts_ahead.ask(random_actions=self._warms_up())
            taken = self.rollouts_ahead.take()
            samples = [fragment for rollout in taken for fragment in rollout.fragments]
            runner_results = [rollout.metrics for rollout in taken]
        else:
            samples, runner_results = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                sample_timeout_s=self.config.sample_timeout_s,
                random_actions=self._warms_up(),
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
        if not samples:
            self._without_samples(logger)
            return []
        self.metrics.aggregate(runner_results, key=ENV_RUNNER_RESULTS)
        return self._fragments(samples)

    def _warms_up(self) -> bool:
        return self._env_steps() < self.config.num_steps_sampled_before_learning_starts

    def _env_steps(self) -> int:
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))
