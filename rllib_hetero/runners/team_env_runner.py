"""The team env runner: samples many environments with one forward pass per module and step.

Where the time of a rollout goes is Python objects, one per agent and step. This runner keeps
them out of the loop: E environments write into time-major arrays, each module runs once per
vector step on all its agents of all environments, exploration noise is drawn once per call,
and log-probabilities are computed once per call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_STEP_TIMER,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
    RLMODULE_INFERENCE_TIMER,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.typing import StateDict

from rllib_hetero.errors import TeamDataError
from rllib_hetero.layout import Layout
from rllib_hetero.references import fetch
from rllib_hetero.runners.acting import Acting, ActingInTurn
from rllib_hetero.runners.actions import action_transforms
from rllib_hetero.runners.checks import find_problem
from rllib_hetero.runners.dealing import Deal, deal
from rllib_hetero.runners.env_creator import env_creator
from rllib_hetero.runners.finished import FinishedEpisodes
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.runners.hang_guard import HangGuard
from rllib_hetero.runners.join import join
from rllib_hetero.runners.problems import TellsProblems
from rllib_hetero.runners.recorder import Recorder
from rllib_hetero.runners.reordered import ReorderedTeamEnv
from rllib_hetero.runners.tally import EpisodeCallbacks, Tally
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv, make_vector_env
from rllib_hetero.team import AgentID
from rllib_hetero.threads import torch_threads

PROGRESS = "team_progress"
NUM_ENV_FAILURES_LIFETIME = "num_env_failures_lifetime"
# Where whole episodes are asked for, arrays are made for so many steps at a time.
_STRETCH = 64


def _where(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


def _as_it_is(thing: Any) -> Any:
    return thing


class TeamEnvRunner(TellsProblems, MultiAgentEnvRunner):
    """Samples team fragments from E environments.

    Reset seeds come from (seed, runner, sub-environment, episode number) and exploration noise
    from (seed, runner, number of the rollout). Both counters are part of the state, so that a
    restored runner goes on with the episodes and the noise that the uninterrupted one would have
    had.
    """

    @override(MultiAgentEnvRunner)
    def __init__(self, config: AlgorithmConfig, **kwargs: Any) -> None:
        self._layout: Layout = config.layout
        self._num_samples = 0
        self._entropy = config.seed
        if self._entropy is None:
            self._entropy = int(np.random.SeedSequence().generate_state(1)[0])
        super().__init__(config, **kwargs)
        self._transforms = action_transforms(
            self._layout,
            normalize=self.config.normalize_actions,
            clip=self.config.clip_actions,
        )
        moves = self._layout.team.moves
        self._translated = [a for a, m in moves.items() if not m.plain]
        acting = ActingInTurn if self._layout.autoregressive else Acting
        self._acting = acting(self._layout, self.module, self.num_envs, self._device)
        self._num_rollouts = 0
        window = self.config.metrics_num_episodes_for_smoothing / (self.config.num_env_runners or 1)
        self._finished = FinishedEpisodes(self._layout, max(1, math.ceil(window)))
        self._episode_callbacks = EpisodeCallbacks(self._layout, self, self._callbacks)

    # ---- environments -----------------------------------------------------------------------

    @override(MultiAgentEnvRunner)
    def make_env(self) -> None:
        # A process of its own only: the driver must not be ended.
        self._guard = HangGuard(self.config.env_timeout_s if self.worker_index else None)
        with self._guard:
            self._make_env()

    def _make_env(self) -> None:
        if self.env is not None:
            self.env.close()
        num_envs = self.config.num_envs_per_env_runner
        contexts = [
            EnvContext(
                {**self.config.env_config, "num_envs": num_envs}
                if self.config.batched_env
                else self.config.env_config,
                worker_index=self.worker_index or 0,
                vector_index=i,
                num_workers=self.config.num_env_runners,
            )
            for i in range(num_envs)
        ]
        env = make_vector_env(
            env_creator(self.config.env),
            contexts,
            team=None if self.config.batched_env else self._layout.team,
            restart_failed=self.config.restart_failed_sub_environments,
        )
        if env.team.agents != self._layout.team.agents:
            env = ReorderedTeamEnv(env, self._layout.team)
        self.env: VectorTeamEnv = env
        self.num_envs = num_envs
        self._episode_number = np.zeros(num_envs, np.int64)
        self._needs_initial_reset = True
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env,
                "env_context": contexts[0],
            },
        )

    @override(MultiAgentEnvRunner)
    def make_module(self) -> None:
        super().make_module()
        if self.module is not None:
            self.module.foreach_module(lambda _, m: m.eval())

    @override(EnvRunner)
    def get_spaces(self) -> dict:
        if self.env is None:
            return self.spaces
        spaces = (self.env.single_observation_space, self.env.single_action_space)
        return {
            "__env__": spaces,
            "__env_single__": spaces,
            **{
                m: (self._layout.observation_space(m), self._layout.action_space(m))
                for m in self._layout.groups
            },
        }

    def _reset(self, envs: Iterable[int]) -> None:
        envs = list(envs)
        seeds = [self._reset_seed(e) if self.env.seeded else None for e in envs]
        failed_before = self.env.failed_resets
        self._guard.alive()
        self._episode_callbacks.leave(envs)
        self.env.reset(envs, seeds)
        self._count_failures(self.env.failed_resets - failed_before)
        self._acting.memories.reset(envs)
        self._episode_number[envs] += 1
        self._tally.start(envs)
        self._episode_callbacks.start(envs)

    def _count_failures(self, count: int) -> None:
        if count:
            self.metrics.log_value(NUM_ENV_FAILURES_LIFETIME, count, reduce="lifetime_sum")

    def _reset_all(self) -> None:
        self._tally = Tally(self._layout.team, self.num_envs)
        self._reset(range(self.num_envs))
        self._needs_initial_reset = False

    def _stream(self, *key: int) -> np.random.SeedSequence:
        runner = (self.worker_index or 0, int(self.config.in_evaluation))
        return np.random.SeedSequence([self._entropy, *runner, *key])

    def _reset_seed(self, e: int) -> int:
        return int(self._stream(0, e, int(self._episode_number[e])).generate_state(1)[0] >> 1)

    # ---- sampling ---------------------------------------------------------------------------

    @override(MultiAgentEnvRunner)
    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[TeamFragment]:
        """Samples and returns team fragments.

        Args:
            num_timesteps: At least that many environment steps over all E environments; rounded
                up to a multiple of E. Without either number: one rollout fragment.
            num_episodes: Exactly that many whole episodes enter the metrics, shared evenly over
                the environments, so that short episodes are not favoured. Starts from fresh
                resets. Further episodes, run while others are awaited, do not end for callbacks.
            explore: Exploring (True) or greedy (False) actions; None: `config.explore`.
            random_actions: Uniformly random allowed actions instead of the policy's.
            force_reset: Start from fresh resets.

        Returns:
            A list of one fragment (of none, if no episodes are asked for). If an environment
            broke its own description, the fragment's `problem` says how.

        Raises:
            TeamDataError: In evaluation, whose fragments nobody reads, if an environment did so.
        """
        if self.env is None:
            raise ValueError(f"{self} has no environment to sample from.")
        if num_timesteps is not None and num_episodes is not None:
            raise ValueError("Give `num_timesteps` or `num_episodes`, not both.")
        explore = self.config.explore if explore is None else explore
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        # As Ray gives remote runners.
        threads = max(1, int(self.config.num_cpus_per_env_runner))
        with self.metrics.log_time(SAMPLE_TIMER), torch_threads(threads), self._guard:
            try:
                if num_timesteps is None and num_episodes is None:
                    if self.config.batch_mode == "complete_episodes":
                        num_episodes = self.num_envs
                    else:
                        length = self.config.get_rollout_fragment_length(self.worker_index or 0)
                        num_timesteps = length * self.num_envs
                if force_reset or num_episodes is not None or self._needs_initial_reset:
                    self._reset_all()
                if num_timesteps is not None:
                    quota = np.full(self.num_envs, np.iinfo(np.int64).max)
                    steps = math.ceil(num_timesteps / self.num_envs)
                    fragments = [self._rollout(steps, quota, explore, random_actions)]
                else:
                    quota = np.full(self.num_envs, num_episodes // self.num_envs)
                    quota[: num_episodes % self.num_envs] += 1
                    fragments = self._whole_episodes(quota, explore, random_actions)
            except TeamDataError as error:
                fragments = [self._empty_fragment(str(error))]
        if fragments and fragments[0].problem:
            self._needs_initial_reset = True
            if self.config.in_evaluation:
                self.get_metrics()  # Gone: they are of broken data.
                raise TeamDataError(f"In evaluation: {fragments[0].problem}")
        make_callback(
            "on_sample_end",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_sample_end,
            kwargs={"env_runner": self, "metrics_logger": self.metrics, "samples": fragments},
        )
        return fragments

    def deal(self, *, random_actions: bool = False, by_reference: bool = True) -> list[Deal]:
        """As `sample`, for agents that learn apart: one rollout, taken apart.

        Args:
            random_actions: See `sample`.
            by_reference: Whether the parts go into Ray's object store.
        """
        fragments = self.sample(random_actions=random_actions)
        post = ray.put if by_reference else _as_it_is
        return [deal(fragment, self._layout, post) for fragment in fragments]

    def _whole_episodes(
        self, quota: np.ndarray, explore: bool, random_actions: bool
    ) -> list[TeamFragment]:
        """Runs until every quota of episodes is used up; one fragment, none without a quota."""
        stretches = []
        while quota.any():
            stretches.append(self._rollout(self._stretch(), quota, explore, random_actions))
            if stretches[-1].problem:
                break
        self._needs_initial_reset = True
        return [join(stretches)] if stretches else []

    def _stretch(self) -> int:
        """Steps of one rollout where it is not known how many there will be."""
        if not self._acting.memories.sizes:
            return _STRETCH
        # So that states are recorded at the same distances over several.
        length = self.config.max_seq_len
        return math.ceil(_STRETCH / length) * length

    def _rollout(
        self, num_steps: int, quota: np.ndarray, explore: bool, random_actions: bool
    ) -> TeamFragment:
        """Runs up to `num_steps` vector steps; stops when every quota of episodes is used up.

        `quota` (E,) holds how many episodes still enter the metrics, counted down in place.
        """
        recorder = self._recorder(num_steps)
        # Episodes begun in an earlier rollout.
        continues = self._tally.lengths > 0
        source = (self.worker_index or 0, self._num_rollouts)
        self._num_rollouts += 1
        self._begin_acting(num_steps, explore, random_actions)
        in_env = in_module = 0.0
        t = 0
        while t < num_steps and quota.any():
            recorder.observe(t, self.env)
            recorder.valid[t] = quota > 0  # What runs on after its last episode is not data.
            before = time.perf_counter()
            self._acting.act(recorder, t, self.env)
            actions = self._actions_for_env(recorder, t, as_they_are=random_actions)
            between = time.perf_counter()
            self._guard.alive()
            try:
                outcome = self.env.step(actions)
            except TeamDataError:
                raise
            except Exception:
                # Environments may refuse the actions that a policy draws from NaN.
                problem = find_problem(recorder.finish(t + 1, self.env), self._layout)
                if problem:
                    raise TeamDataError(problem) from None
                raise
            if not isinstance(outcome, Outcome):
                raise TeamDataError(
                    f"The vector environment's step() returned a {type(outcome).__name__}. It "
                    "must return an rllib_hetero.Outcome(rewards, terminated, truncated, failed)."
                )
            in_module += between - before
            in_env += time.perf_counter() - between
            self._record(recorder, t, outcome, quota)
            t += 1
        fragment = recorder.finish(t, self.env)
        fragment.problem = find_problem(fragment, self._layout)
        fragment.continues, fragment.source = continues, source
        self.metrics.log_value(ENV_STEP_TIMER, in_env / max(t, 1))
        self.metrics.log_value(RLMODULE_INFERENCE_TIMER, in_module / max(t, 1))
        self._finished.log(self.metrics)
        self._log_steps(fragment)
        return fragment

    def _recorder(self, num_steps: int) -> Recorder:
        return Recorder(
            self._layout,
            num_steps,
            self.num_envs,
            state_sizes=self._acting.memories.sizes,
            max_seq_len=self.config.max_seq_len,
        )

    def _begin_acting(self, num_steps: int, explore: bool, random_actions: bool) -> None:
        rng = None
        if explore:
            rng = np.random.default_rng(self._stream(1, self._num_samples))
            self._num_samples += 1
        if random_actions:
            self._seed_spaces()
        if isinstance(self._acting, ActingInTurn):
            self._acting.order = self.config.execution_order_of(self._weights_seq_no)
        self._acting.begin(num_steps, explore=explore, random=random_actions, rng=rng)

    def _seed_spaces(self) -> None:
        team = self._layout.team
        seeds = self._stream(2, self._num_samples).generate_state(len(team.agents))
        self._num_samples += 1
        for agent, seed in zip(team.action_spaces, seeds, strict=True):
            team.moves[agent].flat.seed(int(seed))

    def _actions_for_env(
        self, recorder: Recorder, t: int, *, as_they_are: bool
    ) -> dict[AgentID, Any]:
        # Copies: environments may write into what they are given.
        drawn = {m: x[t].copy() for m, x in recorder.actions.items()}
        if not as_they_are:
            # Once for all agents of a module: their spaces are equal.
            of_module = {m: self._transforms[a[0]] for m, a in self._layout.groups.items()}
            drawn = {m: of_module[m](x) for m, x in drawn.items()}
        actions = {agent: drawn[m][:, k] for agent, (m, k) in self._layout.slot_of.items()}
        for agent in self._translated:
            actions[agent] = self._layout.team.moves[agent].decode(actions[agent])
        return actions

    def _record(self, recorder: Recorder, t: int, outcome: Outcome, quota: np.ndarray) -> None:
        recorder.rewards[t] = outcome.rewards
        recorder.terminated[t] = outcome.terminated
        recorder.truncated[t] = outcome.truncated
        self._tally.add(outcome.rewards, recorder.active[t])
        self._episode_callbacks.step(_where(~outcome.failed), outcome, self._tally, recorder, t)
        ended = (outcome.terminated | outcome.truncated) & ~outcome.failed
        if not (ended | outcome.failed).any():
            return
        for e in _where(outcome.failed):
            recorder.cut_before_failure(t, e)
            self._count_failures(1)
        for e in _where(outcome.truncated & ~outcome.failed):
            recorder.add_final(t, e, self.env)
        counted = _where(ended & (quota > 0))
        quota[counted] -= 1
        self._episode_callbacks.end(counted, outcome, self._tally)
        self._finished.add(counted, self._tally, self.env.episode_metrics(counted))
        self._reset(_where(ended | outcome.failed))

    def _empty_fragment(self, problem: str) -> TeamFragment:
        recorder = self._recorder(0)
        fragment = recorder.finish(0, self.env)
        fragment.problem = problem
        # RLlib's sampling loop goes on until steps have come in; a problem must end it.
        self.metrics.log_value(
            NUM_ENV_STEPS_SAMPLED, self.config.total_train_batch_size, reduce="sum"
        )
        return fragment

    # ---- metrics ----------------------------------------------------------------------------

    def _log_steps(self, fragment: TeamFragment) -> None:
        log = self.metrics.log_value
        steps = fragment.env_steps()
        log(NUM_ENV_STEPS_SAMPLED, steps, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, steps, reduce="lifetime_sum", with_throughput=True)
        for m, agents in self._layout.groups.items():
            per_agent = fragment.active[m][fragment.valid].sum(0).tolist()
            for agent, n in zip(agents, per_agent, strict=True):
                log((NUM_AGENT_STEPS_SAMPLED, str(agent)), n, reduce="sum")
                log((NUM_AGENT_STEPS_SAMPLED_LIFETIME, str(agent)), n, reduce="lifetime_sum")
            log((NUM_MODULE_STEPS_SAMPLED, m), sum(per_agent), reduce="sum")
            log((NUM_MODULE_STEPS_SAMPLED_LIFETIME, m), sum(per_agent), reduce="lifetime_sum")
        if steps:
            self._log_env_steps(self._metrics_num_env_steps_sampled, steps)
            if isinstance(self._acting, ActingInTurn):
                for name, value in self._acting.communication(fragment).items():
                    log(name, value)

    @override(EnvRunner)
    def get_metrics(self) -> dict:
        return self.metrics.reduce()

    # ---- state ------------------------------------------------------------------------------

    def get_progress(self) -> StateDict:
        """The counters from which reset seeds and noise follow."""
        # An episode that has just been reset has not begun: a restored runner resets it again.
        number = self._episode_number.copy() if self.env is not None else np.zeros(0, np.int64)
        if self.env is not None and not self._needs_initial_reset:
            number -= self._tally.lengths == 0
        return {
            "worker_index": self.worker_index or 0,
            "in_evaluation": self.config.in_evaluation,
            "num_samples": self._num_samples,
            "episode_number": number.tolist(),
            "entropy": self._entropy,
        }

    def set_progress(self, progress: StateDict) -> None:
        """Goes on from saved counters. Episodes under way are given up: they cannot be saved."""
        self._num_samples = progress["num_samples"]
        self._entropy = progress["entropy"]
        number = np.asarray(progress["episode_number"], np.int64)
        if self.env is not None:
            known = min(len(number), self.num_envs)
            self._episode_number[:known] = number[:known]
            self._needs_initial_reset = True

    @override(MultiAgentEnvRunner)
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any):
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(PROGRESS, components, not_components):
            state[PROGRESS] = self.get_progress()
        return state

    @override(MultiAgentEnvRunner)
    def set_state(self, state: StateDict) -> None:
        weights = fetch(state.get(COMPONENT_RL_MODULE))
        if weights is not None:
            # Agents that learn apart send theirs by reference. Those of a lost one do not come.
            known = {m: fetch(x) for m, x in weights.items()}
            known = {m: x for m, x in known.items() if x is not None}
            state = {**state, COMPONENT_RL_MODULE: known}
        super().set_state(state)
        # RLlib also sends one runner's state to others, for its connectors.
        whose = state.get(PROGRESS, {})
        own = (self.worker_index or 0, self.config.in_evaluation)
        if (whose.get("worker_index"), whose.get("in_evaluation")) == own:
            self.set_progress(whose)
