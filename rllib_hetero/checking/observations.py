"""Checks of what agents see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rllib_hetero.checking.calls import short
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.playing import Moment
from rllib_hetero.checking.subject import Subject
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


def arrays(subject: Subject) -> Iterator[tuple[Moment, AgentID, Any, np.ndarray]]:
    """All observations of the right shape, as returned and as float32."""
    for moment in subject.recording:
        for agent in subject.team.agents:
            if agent in moment.kept_observations:
                x = plain(subject, agent, moment.kept_observations[agent])
                array = as_numbers(x)
                if array is not None and array.shape == _shape(subject, agent):
                    yield moment, agent, x, array


def _shape(subject: Subject, agent: AgentID) -> tuple[int, ...]:
    return subject.team.observation_spaces[agent].shape


def shapes(subject: Subject) -> Iterator[Fault]:
    """Observations are numbers, in the shape their space says."""
    for moment in subject.recording:
        for agent, observation in moment.kept_observations.items():
            if agent not in subject.team.agents:
                continue  # told by another check
            x = plain(subject, agent, observation)
            if x is None:
                continue  # a missing mask, too
            array, shape = as_numbers(x), _shape(subject, agent)
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


def finite(subject: Subject) -> Iterator[Fault]:
    """No NaN and no infinity, as float32."""
    for moment, agent, x, array in arrays(subject):
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            yield error(
                f"agent {agent!r}, {moment.where}, index {bad[0]}: {np.asarray(x)[bad[0]]}",
                "Observations must be finite as float32; training refuses the batch.",
                agent,
            )


def bounds(subject: Subject) -> Iterator[Fault]:
    """Observations are inside their Box."""
    for moment, agent, _, array in arrays(subject):
        space = subject.team.observation_spaces[agent]
        index = outside(array, space)
        if index is not None:
            yield warning(
                f"agent {agent!r}, {moment.where}, index {index}: {array[index]:g} is not in "
                f"[{space.low[index]:g}, {space.high[index]:g}]",
                "Widen the observation space (-inf and inf are fine), or mend the value.",
                agent,
            )


def outside(array: np.ndarray, space: Any) -> int | None:
    """The first index at which an array is not inside a Box; None if there is none."""
    with np.errstate(over="ignore"):
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    # Rounding to float32 is no fault.
    slack = 1e-5 * np.maximum(1.0, np.abs(array))
    bad = np.flatnonzero((array < low - slack) | (array > high + slack))
    return int(bad[0]) if bad.size else None


def dtypes(subject: Subject) -> Iterator[Fault]:
    """Observations that are not float32 are converted in every step."""
    for _, agent, x, _ in arrays(subject):
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
    try:
        x, y = np.asarray(x), np.asarray(y)
        if x.shape != y.shape:
            return False
        if x.dtype == object:
            return True  # Told by another check: it is not numeric.
        return bool(np.all((x == y) | ((x != x) & (y != y))))
    except Exception:
        return True  # Cannot be compared: told by another check.
