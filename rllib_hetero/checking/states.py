"""Checks of the global state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gymnasium.spaces import Box

from rllib_hetero.checking.calls import short
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.observations import as_numbers, first_outside, numbers_of, same
from rllib_hetero.checking.playing import Moment
from rllib_hetero.checking.subject import Subject
from rllib_hetero.spaces import Rows, encoded
from rllib_hetero.team import Team


def _space(team: Team) -> Box:
    assert team.state_rows is not None
    return team.state_rows


def arrays(subject: Subject) -> Iterator[tuple[Moment, np.ndarray]]:
    """All states of the right shape, as float32 (k,)."""
    for moment in subject.recording:
        array = numbers_of(_space(subject.team), moment.kept_state)
        if array is not None:
            yield moment, array


def shapes(subject: Subject) -> Iterator[Fault]:
    """The state is numbers, in the shape its space says."""
    space = _space(subject.team)
    shape = space.shape
    for moment in subject.recording:
        if isinstance(space, Rows):
            try:
                encoded(space, moment.kept_state)
            except ValueError as why:
                yield error(f"{moment.where}: {why}", "Mend state_space, or what state() returns.")
            continue
        array = as_numbers(moment.kept_state)
        if array is None:
            yield error(
                f"{moment.where}: state() returned {short(moment.kept_state)}, which is not "
                "numeric",
                f"Return a float32 array of shape {shape}.",
            )
        elif array.shape != shape:
            yield error(
                f"{moment.where}: state() has shape {array.shape}, state_space says {shape}",
                "Mend state_space, or what state() returns.",
            )
        elif getattr(moment.kept_state, "dtype", None) != np.float32:
            kind = getattr(moment.kept_state, "dtype", type(moment.kept_state).__name__)
            yield note(f"state() returns {kind}", "float32 saves a conversion each step.")


def finite(subject: Subject) -> Iterator[Fault]:
    """No NaN and no infinity, as float32."""
    for moment, array in arrays(subject):
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            yield error(
                f"{moment.where}, index {bad[0]}: {array[bad[0]]}",
                "The state must be finite as float32; training refuses the batch.",
            )


def bounds(subject: Subject) -> Iterator[Fault]:
    """The state is inside its Box."""
    space = _space(subject.team)
    for moment, array in arrays(subject):
        found = first_outside(array, space)
        if found:
            yield warning(
                f"{moment.where}, {found}",
                "Widen state_space (-inf and inf are fine), or mend the value.",
            )


def changes(subject: Subject) -> Iterator[Fault]:
    """The state is not a constant."""
    seen = [array for _, array in arrays(subject)]
    if len(seen) > 3 and all(same(seen[0], x) for x in seen):
        yield warning(
            f"state() was the same in all of {len(seen)} calls",
            "The critic learns nothing from a constant: mend state(), or leave state_space out, "
            "and the critic sees all observations.",
        )


def pure(subject: Subject) -> Iterator[Fault]:
    """state() only looks."""
    for moment in subject.recording:
        if not same(moment.kept_state, moment.second_state):
            yield error(
                f"{moment.where}: state() returned something else when called a second time",
                "state() must depend on the step alone, and change nothing.",
            )


def aliases(subject: Subject) -> Iterator[Fault]:
    """What was returned does not change afterwards."""
    for moment in subject.recording:
        if not same(moment.state, moment.kept_state):
            yield error(
                f"the state returned in {moment.where}, has changed since",
                "The environment writes into an array that it has handed out, so those that keep "
                "it see a later step. Return a copy: array.copy().",
            )
