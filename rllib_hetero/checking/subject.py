"""What is checked: makes its environments, as the runners would, and knows its team."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.checking.calls import CannotTellError, EnvironmentFault, call, short
from rllib_hetero.checking.playing import Moment, play
from rllib_hetero.checking.row_view import RowView
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero.errors import TeamError
from rllib_hetero.runners.env_creator import env_creator
from rllib_hetero.runners.returned import check_is_team_env
from rllib_hetero.runners.vector_env import VectorTeamEnv, make_vector_env
from rllib_hetero.team import Team

_GIVEN = "an instance was given; give its class, its creator or its name instead"


@dataclass(frozen=True)
class Settings:
    """The arguments of `check_env`, see there."""

    steps: int
    seconds: float
    seed: int
    num_envs: int
    deterministic: bool | None


class Subject:
    """An environment under check.

    Args:
        env: What `check_env` was given.
        env_config: Its configuration.
        settings: How much is tried.

    Attributes:
        recording: What the environment returned in the first rollout.
        fault: What ended that rollout early, None if nothing did.
    """

    team: Team

    def __init__(self, env: Any, env_config: Mapping[str, Any], settings: Settings) -> None:
        self.settings = settings
        self.recording: list[Moment] = []
        self.fault: EnvironmentFault | None = None
        self._given = None if isinstance(env, str) or callable(env) else env
        if isinstance(env, MultiAgentEnv | VectorTeamEnv):  # an instance may be callable, too
            self._given = env
        self._class = env if isinstance(env, type) else None
        # Made when called, so that what it says of the environment is a finding.
        self._create = lambda context: env_creator(env, names=ENVIRONMENTS)(context)
        self._env_config = dict(env_config)
        self._deadline = time.monotonic() + settings.seconds
        self._envs: dict[int, Any] = {}
        self._batches: dict[int, VectorTeamEnv] = {}

    # ---- making -------------------------------------------------------------------------------

    def make(self, worker_index: int = 0) -> Any:
        """A new environment; a `RowView` of one where it is batched by nature.

        Raises:
            CannotTellError: If an instance was given.
            EnvironmentFault: If it cannot be made.
        """
        if self._given is not None:
            raise CannotTellError(_GIVEN)
        # A function or name of a batched environment is first called without `num_envs`.
        known = self._class is not None and issubclass(self._class, VectorTeamEnv)
        made = self._new(1 if known or (self._envs and self.batched) else None, worker_index)
        return RowView(made) if isinstance(made, VectorTeamEnv) else made

    def env(self, which: int = 0) -> Any:
        """One of the environments that the checks share; made when it is first asked for."""
        if which not in self._envs:
            if which == 0 and self._given is not None:
                batched = isinstance(self._given, VectorTeamEnv)
                self._envs[0] = RowView(self._given) if batched else self._given
            else:
                self._envs[which] = self.make()
        return self._envs[which]

    def batch(self, num_envs: int) -> VectorTeamEnv:
        """So many environments as the team env runner steps them; shared by the checks.

        Raises:
            EnvironmentFault: If the runner would refuse it.
        """
        if self._given is not None:
            if not isinstance(self._given, VectorTeamEnv) or self._given.num_envs != num_envs:
                raise CannotTellError(_GIVEN)
            return self._given
        if num_envs not in self._batches:
            team = None if self.batched else self.team
            contexts = [
                self._context(num_envs if self.batched else None, 0, i) for i in range(num_envs)
            ]
            name = f"making {num_envs} environments"
            try:
                self._batches[num_envs] = call(
                    make_vector_env, self._create, contexts, team=team, name=name
                )
            except EnvironmentFault as fault:
                if isinstance(fault.__cause__, TeamError):
                    raise EnvironmentFault(str(fault.__cause__), "") from fault
                raise
        return self._batches[num_envs]

    @contextmanager
    def fresh(self, worker_index: int = 0) -> Iterator[Any]:
        """A new environment of its own, closed at the end."""
        env = self.make(worker_index)
        try:
            yield env
        finally:
            _close(env)

    def close(self) -> None:
        """Closes what was made here; what was given stays open."""
        made = [e for e in self._envs.values() if self._given is None]
        for env in [*made, *self._batches.values()]:
            _close(env)

    def _new(self, num_envs: int | None, worker_index: int) -> Any:
        context = self._context(num_envs, worker_index, 0)
        return call(self._create, context, name="making the environment")

    def _context(self, num_envs: int | None, worker_index: int, vector_index: int) -> EnvContext:
        extra = {} if num_envs is None else {"num_envs": num_envs}
        return EnvContext(
            {**self._env_config, **extra},
            worker_index=worker_index,
            vector_index=vector_index,
            num_workers=2,
        )

    # ---- what it is ---------------------------------------------------------------------------

    @property
    def batched(self) -> bool:
        """Whether it is batched by nature."""
        return isinstance(self.env(), RowView)

    @cached_property
    def deterministic(self) -> bool:
        """Whether equal seeds and actions are to give equal episodes."""
        if self.settings.deterministic is not None:
            return self.settings.deterministic
        env = self.env().batch if self.batched else self.env()
        return bool(getattr(env, "deterministic", True))

    def read_team(self) -> None:
        """Sets `team`.

        Raises:
            TeamError: If there is none that can be trained.
            EnvironmentFault: If the environment raises.
        """
        env = self.env()
        if isinstance(env, RowView):
            self.team = env.batch.team
            return
        check_is_team_env(env)
        try:
            self.team = call(Team.from_env, env, name="reading its spaces")
        except EnvironmentFault as fault:
            if isinstance(fault.__cause__, TeamError):
                raise fault.__cause__ from None
            raise

    # ---- time ---------------------------------------------------------------------------------

    @property
    def seconds_left(self) -> float:
        """Until the checks are to be done."""
        return self._deadline - time.monotonic()

    def play(self, env: Any, *, seed: int, steps: int) -> Iterator[Moment]:
        """As `playing.play`, as long as there is time.

        Raises:
            CannotTellError: If the time is over.
        """
        for moment in play(env, self.team, seed=seed, steps=steps):
            self.hurry()
            yield moment

    def hurry(self) -> None:
        """Raises CannotTellError if the time is over."""
        if self.seconds_left < 0:
            raise CannotTellError(f"the {self.settings.seconds:g} seconds were over (seconds=...)")

    def record(self) -> None:
        """Plays the first rollout, for at most half of the time."""
        half = self.seconds_left / 2
        started = time.monotonic()
        rollout = play(self.env(), self.team, seed=self.settings.seed, steps=self.settings.steps)
        try:
            for moment in rollout:
                self.recording.append(moment)
                if time.monotonic() - started > half:
                    break
        except EnvironmentFault as fault:
            self.fault = fault
        except Exception as problem:
            what = f"what was returned cannot be read: {type(problem).__name__}: {short(problem)}"
            self.fault = EnvironmentFault(what, "Return dicts by agent id, of plain arrays.")


def _close(env: Any) -> None:
    # That close() works is for a check of its own.
    with suppress(EnvironmentFault):
        call(lambda: env.close(), name="close()")
