"""What every team algorithm is, whatever it learns from: fragments, resuming, exported policies."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    EVALUATION_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
)
from ray.rllib.utils.typing import ResultDict, StateDict

from rllib_hetero.algorithms.checkpoint import export_policies, exported_agents
from rllib_hetero.algorithms.evaluation import global_randomness_kept
from rllib_hetero.algorithms.resources import check_gpus
from rllib_hetero.algorithms.rollouts_ahead import RolloutsAhead
from rllib_hetero.connectors.episodes_to_fragment import fragment_from_episodes
from rllib_hetero.errors import TeamDataError, TeamError
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.team import AgentID

RUNNER_PROGRESS = "team_runner_progress"
AGENTS = "team_agents"
LAST_KNOWN = "last_known_results"
MOST_VAIN_RESTARTS = 5
"""Restarts of a runner, one after another, that return nothing."""
EPISODE_KEYS = (
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_LEN_MEAN,
)
"""Results that are there in every iteration."""
CONNECTORS = (COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR)


_FIXED_MODULES = (
    "The modules of a team follow from its agents, and stay for the whole run. For an opponent "
    "that is a frozen or earlier copy, give both sides a module from the start, "
    "config.multi_agent(parameter_sharing={'us': [...], 'them': [...]}, policies_to_train=['us']), "
    "and copy the weights when it is time: "
    "algo.set_weights({'them': algo.get_weights(['us'])['us']})."
)


class TeamAlgorithm(Algorithm):
    """Base of all algorithms. A family of them supplies `training_step`.

    A checkpoint holds how far each runner has come in its own randomness, and, beside RLlib's
    files, the policies in a form that needs no Ray to read.

    Attributes:
        rollouts_ahead: Those that runners sample while learners update; None in families and
            settings where the two take turns. What has not been taken is in no checkpoint: a
            resumed run samples it anew.
    """

    config: Any
    eval_env_runner_group: EnvRunnerGroup | None
    rollouts_ahead: RolloutsAhead | None = None
    _restarts_at_last_samples: int | None

    @staticmethod
    @override(Algorithm)
    def _get_env_id_and_creator(env_specifier: Any, config: Any) -> tuple[Any, Any]:
        """As RLlib's, which takes no functions."""
        if callable(env_specifier) and not isinstance(env_specifier, type):
            return env_specifier, env_specifier
        return Algorithm._get_env_id_and_creator(env_specifier, config)

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
        self._restarts_at_last_samples = None
        return samples

    def _without_samples(self, logger: logging.Logger) -> None:
        """No runner has answered in this iteration.

        Raises:
            TeamError: If every runner has been restarted several times by now, and none has
                returned a single step: this would go on for ever. A node that is lost restarts
                nothing, and is waited for.
        """
        logger.warning(
            "No env runner returned data; this iteration trains nothing. If this goes on, look at "
            "the runners' logs, raise config.env_runners(sample_timeout_s=...), or allow restarts "
            "with config.fault_tolerance(restart_failed_env_runners=True)."
        )
        restarts = self.env_runner_group.num_remote_worker_restarts()
        if self._restarts_at_last_samples is None:
            self._restarts_at_last_samples = restarts
        new = restarts - self._restarts_at_last_samples
        if new >= MOST_VAIN_RESTARTS * self.config.num_env_runners:
            raise TeamError(
                f"Env runners were restarted {new} times and returned nothing in between: the "
                "environment raises, or ends its process, each time. The runners' logs say where; "
                "check_env(...) plays it here. One that fails now and then is made anew with "
                "config.fault_tolerance(restart_failed_sub_environments=True)."
            )

    # ---- modules ----------------------------------------------------------------------------

    @override(Algorithm)
    def add_module(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: the modules of a team follow from its agents.

        Raises:
            TeamError: Always, with what to do for an opponent that is an earlier copy.
        """
        raise TeamError(_FIXED_MODULES)

    @override(Algorithm)
    def remove_module(self, *args: Any, **kwargs: Any) -> Any:
        """Refused, see `add_module`.

        Raises:
            TeamError: Always.
        """
        raise TeamError(_FIXED_MODULES)

    # ---- results ----------------------------------------------------------------------------

    @override(Algorithm)
    def setup(self, config: Any) -> None:
        # By key of the results: what the last iteration had in which an episode ended.
        self._last_known: dict[str, dict[str, float]] = {}
        self._restarts_at_last_samples = None
        check_gpus(self.config)
        super().setup(config)

    @override(Algorithm)
    def _compile_iteration_results(self, **kwargs: Any) -> ResultDict:
        """As RLlib's, with the episodes' numbers also where none ended in this iteration.

        Tune refuses results that lack its metric, ASHA and PBT compare them.
        """
        results = super()._compile_iteration_results(**kwargs)
        places = {ENV_RUNNER_RESULTS: results.setdefault(ENV_RUNNER_RESULTS, {})}
        if EVALUATION_RESULTS in results:
            of_evaluation = results[EVALUATION_RESULTS].setdefault(ENV_RUNNER_RESULTS, {})
            places[EVALUATION_RESULTS] = of_evaluation
        for place, found in places.items():
            known = self._last_known.setdefault(place, dict.fromkeys(EPISODE_KEYS, math.nan))
            if math.isnan(found.get(NUM_EPISODES, math.nan)):
                found[NUM_EPISODES] = 0
            for key in EPISODE_KEYS:
                value = float(found.get(key, math.nan))
                if not math.isnan(value):
                    known[key] = value
                found[key] = known[key]
        return results

    # ---- evaluation -------------------------------------------------------------------------

    @override(Algorithm)
    def evaluate(self, parallel_train_future: Any = None) -> ResultDict:
        """As RLlib's, on a runner of its own also where `config.evaluation(...)` asks for none.

        RLlib then takes the training's: it explores, and gives up its episodes. Here the training
        goes on as if nothing had been.

        Raises:
            TeamDataError: If an environment breaks its own description.
        """
        if parallel_train_future is not None:
            return super().evaluate(parallel_train_future)
        if self.config.evaluation_duration == "auto":
            raise TeamError(
                "evaluation_duration='auto' is as long as the training beside it takes, and there "
                "is none: set config.evaluation(evaluation_duration=10) to call evaluate()."
            )
        with global_randomness_kept():
            if self.eval_env_runner_group is None:
                self.eval_env_runner_group = self._make_evaluation_runner()
            if self.eval_env_runner_group.num_remote_env_runners() == 0 and self.env_runner:
                # RLlib does so for remote runners only.
                self.eval_env_runner.set_state(self.env_runner.get_state(CONNECTORS))
            return super().evaluate()

    def _make_evaluation_runner(self) -> EnvRunnerGroup:
        """One in this process, by RLlib's config of an evaluation."""
        config = self.evaluation_config
        _, env_creator = self._get_env_id_and_creator(config.env, config)
        return EnvRunnerGroup(
            env_creator=env_creator,
            config=config,
            logdir=self.logdir,
            tune_trial_id=self.trial_id,
            local_env_runner=True,
        )

    # ---- resuming ---------------------------------------------------------------------------

    @override(Algorithm)
    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """As RLlib's, also where the checkpoint has the agents in another order.

        Raises:
            TeamError: If the checkpoint is another team's, or only a component of one whose agents
                are in another order is to be restored.
        """
        agents = exported_agents(str(path), kwargs.get("filesystem"))
        if agents is not None and agents != self.config.layout.team.agents:
            if kwargs.get("component"):
                raise TeamError(
                    f"The checkpoint {path} has the agents in another order, "
                    f"{list(agents)}: restore it whole, without component=..."
                )
            self._take_order(agents)
        super().restore_from_path(path, *args, **kwargs)

    def _take_order(self, agents: tuple[AgentID, ...]) -> None:
        """Sets everything up anew, with the agents in this order.

        Rows of modules and columns of the critic go by it.

        Raises:
            TeamError: If these are not the team's agents.
        """
        own = self.config.layout.team.agents
        if set(agents) != set(own):
            raise TeamError(
                f"The checkpoint is of the team {list(agents)}, and the environment's agents are "
                f"{list(own)}. Set the environment that it was trained on with "
                "config.environment(...)."
            )
        config = self.config.copy(copy_frozen=False)
        config.layout = replace(config.layout, team=config.layout.team.ordered(agents))
        config.validate()
        config.freeze()
        self.cleanup()
        self.config = config
        self.setup(config)

    @override(Algorithm)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> StateDict:
        state = super().get_state(components, not_components=not_components, **kwargs)
        state[AGENTS] = self.config.layout.team.agents
        state[LAST_KNOWN] = {place: dict(known) for place, known in self._last_known.items()}
        if self.env_runner_group.num_remote_env_runners():
            if self.rollouts_ahead is not None:
                self.rollouts_ahead.finish()
            # RLlib saves its local runner only; the remote ones hold the seeds' counters.
            progress = {
                p["worker_index"]: p
                for p in self.env_runner_group.foreach_env_runner(
                    _get_progress, local_env_runner=False, timeout_seconds=30.0
                )
                if p is not None
            }
            if self.rollouts_ahead is not None:
                progress |= self.rollouts_ahead.progress()
            state[RUNNER_PROGRESS] = list(progress.values())
        return state

    @override(Algorithm)
    def set_state(self, state: StateDict) -> None:
        if self.rollouts_ahead is not None:
            self.rollouts_ahead.drop()
        agents = state.get(AGENTS, self.config.layout.team.agents)
        if agents != self.config.layout.team.agents:
            self._take_order(agents)
        for runners in (self.env_runner_group, self.eval_env_runner_group):
            if runners is not None:
                runners.foreach_env_runner(accept_earlier_weights)
        super().set_state(state)
        self._last_known = state.get(LAST_KNOWN, self._last_known)
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
            if self.rollouts_ahead is not None and env_runner_group is self.env_runner_group:
                self.rollouts_ahead.forget(restored)
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
    def save_to_path(self, path: Any = None, *, previous: str | None = None, **kwargs: Any) -> str:
        """As RLlib's, with what belongs beside its files.

        Args:
            path: The checkpoint's folder, or its URI.
            previous: An earlier checkpoint of this run; what has not changed may be linked to it.
            **kwargs: RLlib's, such as `filesystem`.

        Returns:
            The path, without a URI's scheme.
        """
        saved = super().save_to_path(path, **kwargs)
        self._save_beside(str(path or saved), kwargs.get("filesystem"), previous)
        return saved

    def _save_beside(self, path: str, filesystem: Any, previous: str | None) -> None:
        """Writes the policies in a form that needs no Ray to read."""
        export_policies(self, path, filesystem=filesystem)


def accept_earlier_weights(runner: Any) -> None:
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
