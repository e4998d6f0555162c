"""One conformance test for every environment: `check_env`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.checking import (
    actions,
    batches,
    ends,
    episode_metrics,
    layer_norm,
    masks,
    observations,
    repeats,
    resources,
    rewards,
    speed,
    states,
)
from rllib_hetero.checking.batch_arrays import arrays
from rllib_hetero.checking.calls import CannotTellError, EnvironmentFault, short
from rllib_hetero.checking.findings import Fault, Report, counted, error
from rllib_hetero.checking.row_view import RowView
from rllib_hetero.checking.subject import Settings, Subject
from rllib_hetero.envs import register_environments
from rllib_hetero.errors import TeamError
from rllib_hetero.runners.returned import check_is_team_env
from rllib_hetero.runners.vector_env import VectorTeamEnv


class Check(NamedTuple):
    """A named check of a subject.

    Attributes:
        name: How it is called in the report.
        find: Yields the faults that it finds.
        applies: Whether it is about a subject at all.
        last: Whether it would only repeat the errors that others have found.
    """

    name: str
    find: Callable[[Subject], Iterator[Fault]]
    applies: Callable[[Subject], bool] = lambda subject: True
    last: bool = False


def _one_by_one(subject: Subject) -> bool:
    return not subject.batched


def _batched(subject: Subject) -> bool:
    return subject.batched


def _masked(subject: Subject) -> bool:
    return bool(subject.team.masked)


def _counts(subject: Subject) -> bool:
    return hasattr(subject.env(), "episode_metrics")


def _has_state(subject: Subject) -> bool:
    return subject.team.state_space is not None


READING = (
    Check("agents are fixed", ends.agents_fixed),
    Check("agents at reset", ends.agents_at_reset),
    Check("agents leave once", ends.comings_and_goings),
    Check("observation shapes", observations.shapes),
    Check("finite observations", observations.finite),
    Check("observation bounds", observations.bounds),
    Check("observation dtypes", observations.dtypes, _one_by_one),
    Check("observations after LayerNorm", layer_norm.observations),
    Check("observations are copies", observations.aliases, _one_by_one),
    Check("final observations", ends.final_observations),
    Check("no restart within step", ends.restarts),
    Check("mask shapes", masks.shapes, _masked),
    Check("masks allow something", masks.empty, _masked),
    Check("masks are declared", masks.undeclared, _one_by_one),
    Check("rewards", rewards.numbers),
    Check("rewards of those that act", rewards.receivers),
    Check("reward scheme", rewards.scheme),
    Check("flags", ends.flags),
    Check("terminated or truncated", ends.both_ends),
    Check("ends when nobody is left", ends.nobody_left),
    Check("time limit", ends.time_limit),
    Check("episode metrics", episode_metrics.metrics, _counts),
    Check("state shape", states.shapes, _has_state),
    Check("finite state", states.finite, _has_state),
    Check("state bounds", states.bounds, _has_state),
    Check("state changes", states.changes, _has_state),
    Check("states after LayerNorm", layer_norm.states),
    Check("state() only looks", states.pure, _has_state),
    Check("state is a copy", states.aliases, lambda s: _has_state(s) and _one_by_one(s)),
    Check("actions untouched", actions.untouched, _one_by_one),
)
"""Checks that read what was recorded."""

PLAYING = (
    # First: most others reset in mid-episode, too.
    Check("reset in mid-episode", repeats.middle),
    Check("determinism", repeats.determinism),
    Check("seeds", repeats.seeds),
    Check("several instances", repeats.instances),
    Check("extreme actions", actions.extremes),
    Check("forbidden actions", masks.forbidden, _masked),
    Check("side by side", batches.side_by_side, last=True),
    Check("vector contract", batches.contract, _batched),
    Check("reset of some", batches.partial_reset, _batched),
    Check("rows are independent", batches.rows_agree, _batched),
    Check("worker index", resources.worker_index),
    Check("closing", resources.closing),
    Check("nothing left behind", resources.leaks),
    Check("speed", speed.speed),
)
"""Checks that play the environment themselves."""


def check_env(
    env: Any,
    env_config: Mapping[str, Any] | None = None,
    *,
    steps: int = 1000,
    seconds: float = 20.0,
    seed: int = 0,
    num_envs: int = 3,
    deterministic: bool | None = None,
) -> Report:
    """Puts an environment to the test before it is trained on.

    It is made as the runners make it, played with random allowed actions, and closed. Whatever
    it does wrong becomes a finding; nothing is raised.

    Args:
        env: What `config.environment(...)` takes: a registered name, a class, or a function of
            the `env_config`. An instance works too: some checks then cannot be made, and it is
            not closed.
        env_config: Its configuration.
        steps: Length of the first rollout, over all episodes. An environment without any end
            within it is said to lack a time limit.
        seconds: Roughly how long all of it may take. Checks that come too late are not made.
        seed: Of the actions and the first reset.
        num_envs: How many environments are stepped side by side.
        deterministic: Whether equal seeds and actions must give equal episodes. None: the
            environment's attribute `deterministic`, True where it has none.

    Returns:
        The report. `print(report)` shows it, `report.ok` is whether there are no errors.

    Examples:
        >>> from rllib_hetero import check_env
        >>> check_env("matrix_game", {"game": "climbing"}, seconds=5.0).ok
        True
    """
    register_environments()  # Ray forgets them when it is shut down.
    if isinstance(env, VectorTeamEnv):
        num_envs = getattr(env, "num_envs", num_envs)
    started = time.monotonic()
    report = Report(_name(env, env_config))
    settings = Settings(steps, seconds, seed, num_envs, deterministic)
    subject = Subject(env, env_config or {}, settings)
    try:
        if _can_be_read(subject, report):
            _examine(subject, report)
            episodes = 1 + max((m.episode for m in subject.recording), default=0)
            count = sum(m.step > 0 for m in subject.recording)
            sizes = (len(subject.team.agents), "agent"), (count, "step"), (episodes, "episode")
            agents, taken, played = (counted(n, what) for n, what in sizes)
            seconds_taken = time.monotonic() - started
            report.summary = f"{agents}, {taken} in {played}, {seconds_taken:.1f} s"
    finally:
        subject.close()
    return report


def _can_be_read(subject: Subject, report: Report) -> bool:
    """The checks without which there is nothing more to check."""
    for name, find in (
        ("making", _making),
        ("agents", _agents),
        ("spaces", _spaces),
    ):
        faults = list(_guarded(find, subject))
        report.add(name, faults)
        if any(f.severity == "error" for f in faults):
            report.untold["everything else"] = "mend this first"
            return False
    return True


def _guarded(find: Callable[[Subject], Iterator[Fault]], subject: Subject) -> Iterator[Fault]:
    try:
        yield from find(subject)
    except EnvironmentFault as fault:
        yield error(fault.seen, fault.mend)
    except TeamError as problem:
        # Its messages say how to mend it.
        yield error(str(problem), "")
    except Exception as problem:
        yield error(f"{type(problem).__name__}: {short(problem)}", "Compare it with the interface.")


def _making(subject: Subject) -> Iterator[Fault]:
    env = subject.env()
    if isinstance(env, RowView):
        yield from arrays(env.batch, subject.settings.seed)
    else:
        check_is_team_env(env)


def _agents(subject: Subject) -> Iterator[Fault]:
    agents = getattr(subject.env(), "possible_agents", None)
    mend = "Set self.possible_agents in __init__: a list of all agents that ever take part."
    if not isinstance(agents, list | tuple) or not agents:
        yield error(f"possible_agents is {agents!r}", mend)
    elif len(set(agents)) < len(agents):
        yield error(f"possible_agents names agents twice: {agents}", mend)


def _spaces(subject: Subject) -> Iterator[Fault]:
    subject.read_team()  # Which raises what is wrong with them.
    return iter(())


def _examine(subject: Subject, report: Report) -> None:
    subject.record()
    fault = subject.fault
    report.add("reset and step", [error(fault.seen, fault.mend)] if fault else [])
    told = {} if fault is None else {fault.cause: "reset and step"}
    for check in READING:
        if check.applies(subject):
            if subject.recording:
                _make(check, subject, report, told)
            else:
                report.untold[check.name] = "reset() must work first"
    for check in PLAYING:
        if check.applies(subject):
            if fault is not None:
                report.untold[check.name] = "reset() and step() must work first"
            elif check.last and not report.ok:
                report.untold[check.name] = "the errors must be mended first"
            else:
                _make(check, subject, report, told)


def _make(check: Check, subject: Subject, report: Report, told: dict[Any, str]) -> None:
    """Makes one check. What the environment raises in it is a finding, once."""
    faults: list[Fault] = []
    try:
        if check in PLAYING:
            subject.hurry()
        faults.extend(check.find(subject))
    except CannotTellError as why:
        report.untold[check.name] = str(why)
    except EnvironmentFault as fault:
        if fault.cause in told:
            report.untold[check.name] = f"it raises as told under '{told[fault.cause]}'"
        else:
            told[fault.cause] = check.name
            faults.append(error(fault.seen, fault.mend))
    except Exception as problem:
        report.untold[check.name] = f"{type(problem).__name__} in the check: {short(problem)}"
    if faults or check.name not in report.untold:
        report.add(check.name, faults)


def _name(env: Any, env_config: Mapping[str, Any] | None) -> str:
    if isinstance(env, str):
        name = env
    elif isinstance(env, MultiAgentEnv | VectorTeamEnv):
        name = f"an instance of {type(env).__name__}"
    else:
        name = getattr(env, "__name__", type(env).__name__)
    return f"{name} {json.dumps(env_config, default=short)}" if env_config else name
