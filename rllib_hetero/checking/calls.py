"""Calls of the environment's own code: what it raises becomes a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from rllib_hetero.errors import MissingExtraError, TeamError


class EnvironmentFault(Exception):
    """The environment raised, or returned what cannot be read.

    Attributes:
        seen: What happened, where, in words.
        mend: What to do about it.
        cause: Equal for faults of the same cause.
    """

    def __init__(self, seen: str, mend: str, cause: Any = None) -> None:
        super().__init__(seen)
        self.seen = seen
        self.mend = mend
        self.cause = seen if cause is None else cause


class CannotTellError(Exception):
    """A check cannot be made; the message says why."""


def call(
    function: Any,
    *args: Any,
    name: str,
    where: str = "",
    agents: Iterable[Any] = (),
    actions: Mapping[Any, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Calls what belongs to the environment.

    Args:
        function: What to call, with `args` and `kwargs`.
        name: How the call is named in the message, "step()".
        where: Episode and step.
        agents: Ids to look for, to name the agent concerned.
        actions: What the agents did.

    Raises:
        EnvironmentFault: If it raises anything, an exit from Python included.
    """
    try:
        return function(*args, **kwargs)
    except (Exception, SystemExit) as problem:
        if isinstance(problem, TeamError | MissingExtraError):  # says how to mend it
            seen = f"{name}{', ' if where else ''}{where}: {' '.join(str(problem).split())}"
            raise EnvironmentFault(seen, "") from problem
        at, agent = _origin(problem, list(agents))
        seen = f"{name} raised {type(problem).__name__}: {_first_line(problem)}"
        seen += f" ({at})" if at else ""
        seen += f", {where}" if where else ""
        seen += f", agent {agent!r}" if agent is not None else ""
        seen += f". The actions were {brief(actions)}." if actions else "."
        mend = "Mend it there. Its own traceback shows when you make the same call yourself."
        raise EnvironmentFault(seen, mend, (type(problem), at)) from problem


def brief(values: Mapping[Any, Any]) -> str:
    """Actions as short text."""
    shown = [f"{k!r}: {short(v)}" for k, v in list(values.items())[:6]]
    return "{" + ", ".join(shown) + (", ..." if len(values) > 6 else "") + "}"


def short(value: Any) -> str:
    """A value as at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    if not lines:
        return "(no message)"
    return lines[0] if len(lines[0]) <= 300 else lines[0][:297] + "..."


def _origin(problem: BaseException, agents: list[Any]) -> tuple[str, Any]:
    """The innermost line of code, and the agent it was about where that can be told."""
    frames: list[TracebackType] = []
    trace = problem.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    # The first frame is `call`.
    if len(frames) < 2:
        return "", None
    code = frames[-1].tb_frame.f_code
    at = f"{os.path.basename(code.co_filename)}, line {frames[-1].tb_lineno}"
    named = {a for a in agents if isinstance(a, str)}
    if isinstance(problem, KeyError) and problem.args and _is_in(problem.args[0], named):
        return at, problem.args[0]
    for frame in reversed(frames[1:]):
        held = {v for v in frame.tb_frame.f_locals.values() if _is_in(v, named)}
        if len(held) == 1:
            return at, held.pop()
    return at, None


def _is_in(value: Any, names: set[str]) -> bool:
    # No environment's own type, whose __eq__ or __hash__ may raise.
    return type(value) is str and value in names
