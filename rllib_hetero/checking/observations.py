"""Checks of what agents see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from rllib_hetero.checking.calls import short
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.playing import Moment
from rllib_hetero.checking.subject import Subject
from rllib_hetero.spaces import Rows, as_dtype, encoded
from rllib_hetero.team import OBSERVATIONS, AgentID


def plain(subject: Subject, agent: AgentID, observation: Any) -> Any:
    """The observation without its action mask; None if it lacks one."""
    if agent not in subject.team.masked:
        return observation
    try:
        return observation[OBSERVATIONS]
    except (KeyError, TypeError, IndexError):
        return None


def as_numbers(value: Any) -> np.ndarray | None:
    """As float32; None if it cannot be read as numbers."""
    if value is None:  # numpy would read it as NaN
        return None
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, np.float32)
    except (TypeError, ValueError):
        return None


def numbers_of(space: Box, x: Any) -> np.ndarray | None:
    """What was seen as one float32 vector (k,), whatever its kind; None if it is not of its space.

    Args:
        space: Of the rows of such observations.
        x: The observation, without a mask.
    """
    if not isinstance(space, Rows):
        array = as_numbers(x)
        return None if array is None or array.shape != space.shape else array
    try:
        row = encoded(space, x)
    except ValueError:
        return None
    parts = [as_dtype(row[p.start : p.stop], p.dtype) for p in space.parts]
    return np.concatenate(parts, dtype=np.float32)


def arrays(subject: Subject) -> Iterator[tuple[Moment, AgentID, Any, np.ndarray]]:
    """All observations of the right shape, as returned and as float32 (k,)."""
    for moment in subject.recording:
        for agent in subject.team.agents:
            if agent in moment.kept_observations:
                x = plain(subject, agent, moment.kept_observations[agent])
                array = numbers_of(subject.team.row_spaces[agent], x)
                if array is not None:
                    yield moment, agent, x, array


def shapes(subject: Subject) -> Iterator[Fault]:
    """Observations are what their space says: numbers, in its shape."""
    for moment in subject.recording:
        for agent, observation in moment.kept_observations.items():
            if agent not in subject.team.agents:
                continue  # told by another check
            x = plain(subject, agent, observation)
            if x is None:
                continue  # a missing mask, too
            space = subject.team.row_spaces[agent]
            if isinstance(space, Rows):
                yield from _not_of(space, agent, moment, x)
                continue
            array, shape = as_numbers(x), space.shape
            if array is None:
                yield error(
                    f"agent {agent!r}, {moment.where}: {short(x)} is not numeric",
                    f"Return a float32 array of shape {shape}.",
                    agent,
                )
            elif array.shape != shape:
                yield error(
                    f"agent {agent!r}, {moment.where}: shape {array.shape}, its space says {shape}",
                    "Mend the environment's observation_spaces, or what it returns.",
                    agent,
                )


def _not_of(space: Rows, agent: AgentID, moment: Moment, x: Any) -> Iterator[Fault]:
    try:
        encoded(space, x)
    except ValueError as why:
        yield error(
            f"agent {agent!r}, {moment.where}: {why}",
            "Mend the environment's observation_spaces, or what it returns.",
            agent,
        )


def finite(subject: Subject) -> Iterator[Fault]:
    """No NaN and no infinity, as float32."""
    for moment, agent, _, array in arrays(subject):
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            yield error(
                f"agent {agent!r}, {moment.where}, index {bad[0]}: {array[bad[0]]}",
                "Observations must be finite as float32; training refuses the batch.",
                agent,
            )


def bounds(subject: Subject) -> Iterator[Fault]:
    """Observations are inside their Boxes."""
    for moment, agent, _, array in arrays(subject):
        found = first_outside(array, subject.team.row_spaces[agent])
        if found:
            yield warning(
                f"agent {agent!r}, {moment.where}, {found}",
                "Widen the observation space (-inf and inf are fine), or mend the value.",
                agent,
            )


def first_outside(array: np.ndarray, space: Box) -> str | None:
    """Where the numbers (k,) of an observation or state are not inside its Box, in words."""
    if not isinstance(space, Rows):
        return _outside(array, space, "")
    end = 0
    for part in space.parts:
        end += part.size
        if isinstance(part.space, Box):
            found = _outside(array[end - part.size : end], part.space, f"{part.name}, ")
            if found:
                return found
    return None


def _outside(array: np.ndarray, space: Box, where: str) -> str | None:
    with np.errstate(over="ignore"):
        low, high = (b.astype(np.float32).reshape(-1) for b in (space.low, space.high))
    # Rounding to float32 is no fault.
    slack = 1e-5 * np.maximum(1.0, np.abs(array))
    bad = np.flatnonzero((array < low - slack) | (array > high + slack))
    if not bad.size:
        return None
    i = int(bad[0])
    return f"{where}index {i}: {array[i]:g} is not in [{low[i]:g}, {high[i]:g}]"


def dtypes(subject: Subject) -> Iterator[Fault]:
    """Vectors that are not float32 are converted in every step."""
    for _, agent, x, _ in arrays(subject):
        if isinstance(subject.team.row_spaces[agent], Rows):
            continue
        kind = getattr(x, "dtype", type(x).__name__)
        if kind != np.float32:
            yield note(f"agent {agent!r}: {kind}", "float32 saves a conversion each step.", agent)


def aliases(subject: Subject) -> Iterator[Fault]:
    """What was returned does not change afterwards."""
    for moment in subject.recording:
        for agent, now in moment.observations.items():
            if agent in subject.team.agents and not same(now, moment.kept_observations[agent]):
                yield error(
                    f"agent {agent!r}: the observation returned in {moment.where}, has changed "
                    "since",
                    "The environment writes into an array that it has handed out, so those that "
                    "keep it see a later step. Return a copy: array.copy().",
                    agent,
                )


def same(x: Any, y: Any) -> bool:
    """Whether two observations or states are equal, NaN being equal to itself."""
    if isinstance(x, dict) and isinstance(y, dict):
        return x.keys() == y.keys() and all(same(x[k], y[k]) for k in x)
    if isinstance(x, tuple) and isinstance(y, tuple):
        return len(x) == len(y) and all(map(same, x, y))
    try:
        x, y = np.asarray(x), np.asarray(y)
        if x.shape != y.shape:
            return False
        if x.dtype == object:
            return True  # Told by another check: it is not numeric.
        return bool(np.all((x == y) | ((x != x) & (y != y))))
    except Exception:
        return True  # Cannot be compared: told by another check.
