"""Checks of what LayerNorm leaves of what the networks see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rllib_hetero.checking.findings import Fault, warning
from rllib_hetero.checking.observations import arrays
from rllib_hetero.checking.states import arrays as state_arrays
from rllib_hetero.checking.subject import Subject
from rllib_hetero.modules.networks import NORMALIZED_FROM
from rllib_hetero.spaces import has_pictures
from rllib_hetero.team import AgentID

# Inputs differ if a number does by more than this share of all its values.
_APART = 0.05
# What varies by less than this share of the largest number is constant but for rounding.
_ROUNDING = 1e-4
# Fewer different inputs than this say nothing, and less than this share of them left is too few.
_ENOUGH, _FEW = 10, 0.25


def observations(subject: Subject) -> Iterator[Fault]:
    """Observations that differ still do after the actors' LayerNorm."""
    seen: dict[AgentID, list[np.ndarray]] = {}
    rows_of = subject.team.row_spaces
    for _, agent, _, array in arrays(subject):
        if has_pictures(rows_of[agent]):
            continue  # It is not on these.
        seen.setdefault(agent, []).append(array)
    for agent, rows in seen.items():
        yield from _told_apart(f"agent {agent!r}: of", "observations", rows, agent)


def states(subject: Subject) -> Iterator[Fault]:
    """States that differ still do after the critic's LayerNorm."""
    if has_pictures(subject.team.critic_space):
        return
    if subject.team.state_space is not None:
        rows = [array for _, array in state_arrays(subject)]
    else:
        moments: dict[int, dict[AgentID, np.ndarray]] = {}
        for moment, agent, _, array in arrays(subject):
            moments.setdefault(id(moment), {})[agent] = array
        spaces = subject.team.row_spaces
        rows = [
            np.concatenate([seen.get(a, np.zeros(s.shape)) for a, s in spaces.items()])
            for seen in moments.values()
        ]
    yield from _told_apart("the critic sees of", "states", rows)


def _told_apart(
    whose: str, what: str, rows: list[np.ndarray], agent: AgentID | None = None
) -> Iterator[Fault]:
    if not rows or len(rows[0]) < NORMALIZED_FROM:
        return
    x = np.stack(rows).astype(float)
    if not np.isfinite(x).all():
        return  # Told by another check.
    centred = x - x.mean(1, keepdims=True)
    normalized = centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + 1e-5)
    before, after = _different(x), _different(normalized)
    if before >= _ENOUGH and after < _FEW * before:
        yield warning(
            f"{whose} {before} different {what}, LayerNorm on the input leaves {after}",
            "It takes out the mean and the scale of the numbers, and little else differs. Leave it "
            "out: config.rl_module(model_config={'layer_norm': 'hidden'}).",
            agent,
        )


def _different(x: np.ndarray) -> int:
    """How many of the rows (n, d) are different."""
    ranges = np.ptp(x, axis=0)
    varies = ranges > _ROUNDING * np.abs(x).max()
    steps = (x - x.min(0))[:, varies] / (_APART * ranges[varies])
    return len(np.unique(steps.round(), axis=0))
