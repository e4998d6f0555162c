"""The loop of sampling and learning of agents that learn apart."""

from __future__ import annotations

import logging
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER_GROUP
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from ray.rllib.utils.typing import StateDict
from ray.tune.execution.placement_groups import PlacementGroupFactory

from rllib_hetero.algorithms.checkpoint import export_description
from rllib_hetero.algorithms.team_algorithm import (
    TeamAlgorithm,
    accept_earlier_weights,
)
from rllib_hetero.errors import TeamDataError, TeamError
from rllib_hetero.runners.dealing import Deal

LEARNING_STARTS_AT = "learning_starts_at"
_NOT_IN_MEMORY = (
    "What agents learn with stays where they learn, and passes through no state in memory: save "
    "with algo.save_to_path(...), go on with algo.restore_from_path(...) or "
    "Algorithm.from_checkpoint(...). "
)

logger = logging.getLogger(__name__)


class DecentralisedAlgorithm(TeamAlgorithm):
    """Runners deal what they sample to the agents' hosts, which learn and agree among themselves.

    The driver says who does what when. It reads neither rewards nor parameters; where the
    environments, or the agents, are in its own process, it holds them.
    """

    @override(Algorithm)
    def setup(self, config: Any) -> None:
        # Later than the warm-up only where a run goes on without its samples.
        self._learning_starts_at = self.config.num_steps_sampled_before_learning_starts
        super().setup(config)

    @override(Algorithm)
    def training_step(self) -> None:
        config, before = self.config, self._env_steps()
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            deals = self._deal(
                random_actions=before < config.num_steps_sampled_before_learning_starts
            )
        if not deals:
            return
        now, start = self._env_steps(), self._learning_starts_at
        num_updates = config.updates_due(now - start) - config.updates_due(before - start)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(deals, env_steps=now, num_updates=num_updates)
        for module_id, metrics in results.items():
            for name, value in metrics.items():
                key = (LEARNER_RESULTS, module_id or ALL_MODULES, name)
                self.metrics.log_value(key, value, window=1)
        if not num_updates:
            return
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self._sync_weights()

    def _deal(self, *, random_actions: bool) -> list[Deal]:
        """One rollout of every runner, taken apart; empty if none answered.

        Raises:
            TeamDataError: If one has a problem. Nothing has been trained on this data then.
        """
        runners, config = self.env_runner_group, self.config
        remote = runners.num_remote_env_runners() > 0
        by_reference = remote or config.agents_per_learner is not None
        results = runners.foreach_env_runner(
            lambda runner: (
                runner.deal(random_actions=random_actions, by_reference=by_reference),
                runner.get_metrics(),
            ),
            local_env_runner=not remote,
            timeout_seconds=config.sample_timeout_s if remote else None,
        )
        if not results:
            self._without_samples(logger)
            return []
        deals = [dealt for of_runner, _ in results for dealt in of_runner]
        for dealt in deals:
            if dealt.problem:
                raise TeamDataError(dealt.problem)
        self._restarts_at_last_samples = None
        self.metrics.aggregate([metrics for _, metrics in results], key=ENV_RUNNER_RESULTS)
        return deals

    def _sync_weights(self) -> None:
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group,
            policies=list(self.config.layout.groups),
            inference_only=True,
        )

    def _env_steps(self) -> int:
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))

    # ---- resources --------------------------------------------------------------------------

    @classmethod
    @override(Algorithm)
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        """RLlib's, and a bundle for each actor of agents."""
        request = super().default_resource_request(config)
        config = cls.get_default_config().update_from_dict(config)
        config.validate()
        if config.agents_per_learner is None:
            return request
        bundle = {"CPU": config.num_cpus_per_agent_learner}
        if config.num_gpus_per_agent_learner:
            bundle["GPU"] = config.num_gpus_per_agent_learner
        return PlacementGroupFactory(
            [*request.bundles, *(dict(bundle) for _ in config.hosts)], strategy=request.strategy
        )

    # ---- resuming ---------------------------------------------------------------------------

    @override(TeamAlgorithm)
    def _save_beside(self, path: str, filesystem: Any, previous: str | None) -> None:
        export_description(self, path, filesystem=filesystem)
        missing, _ = self.learner_group.save(path, filesystem, previous)
        if missing:
            logger.warning(
                "The checkpoint %s does not hold the agents %s, whose actors are lost or late: a "
                "run resumed from it gives them a neighbour's shared part.",
                path,
                missing,
            )

    @override(Algorithm)
    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, *args, **kwargs)
        if kwargs.get("component"):
            return
        missing, samples = self.learner_group.restore(str(path), kwargs.get("filesystem"))
        if missing:
            logger.warning("The checkpoint %s holds no state of the agents %s.", path, missing)
        if not samples:
            steps = self.config.num_steps_sampled_before_learning_starts
            self._learning_starts_at = self._env_steps() + steps
            logger.warning(
                "The checkpoint %s holds no samples for these agents' actors: %d steps are sampled "
                "with its policies before the next update.",
                path,
                steps,
            )
        for runners in (self.env_runner_group, self.eval_env_runner_group):
            if runners is not None:
                runners.foreach_env_runner(accept_earlier_weights)
        self._sync_weights()

    @override(TeamAlgorithm)
    def get_state(self, components: Any = None, **kwargs: Any) -> StateDict:
        """What is not the agents', and policies where they are asked for.

        Raises:
            TeamError: If the whole state is asked for: a run that is kept in this way could not go
                on. Checkpoints have it; RLlib asks for their parts one by one.
        """
        state = super().get_state(components, **kwargs)
        if components is None and COMPONENT_LEARNER_GROUP in state:
            raise TeamError(
                f"{_NOT_IN_MEMORY}algo.get_state(not_components='learner_group') gives the rest, "
                "algo.get_weights() the policies."
            )
        return state | {LEARNING_STARTS_AT: self._learning_starts_at}

    @override(TeamAlgorithm)
    def set_state(self, state: StateDict) -> None:
        """Sets what is not the agents'.

        Raises:
            TeamError: If there is a state of agents, or policies, as of `set_weights`.
        """
        if COMPONENT_LEARNER_GROUP in state:
            raise TeamError(
                f"{_NOT_IN_MEMORY}algo.set_state(...) and algo.set_weights(...) do not reach them."
            )
        super().set_state(state)
        self._learning_starts_at = state.get(LEARNING_STARTS_AT, self._learning_starts_at)

    @override(Algorithm)
    def _create_local_replay_buffer_if_necessary(self, config: Any) -> None:
        """None: what was sampled is the agents'."""
