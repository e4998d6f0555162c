"""Fragments that follow each other in time, as one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from rllib_hetero.runners.fragment import Finals, TeamFragment

_OF_THE_FIRST = ("continues", "source", "first_env")
_AFTER_THE_LAST_ROW = "last_"


def join(fragments: list[TeamFragment]) -> TeamFragment:
    """Consecutive rollouts of one runner as one fragment, so that episodes in it are whole.

    Args:
        fragments: At least one, in the order of time, of equal E. With recurrent modules, all but
            the last are of a multiple of `max_seq_len` steps.
    """
    if len(fragments) == 1:
        return fragments[0]
    finals = _join_finals(fragments)  # May cut an episode: before the flags are joined.
    joined: dict[str, Any] = {"finals": finals, "problem": fragments[-1].problem}
    for name in {f.name for f in fields(TeamFragment)} - joined.keys():
        parts = [getattr(f, name) for f in fragments]
        if name in _OF_THE_FIRST:
            joined[name] = parts[0]
        elif name.startswith(_AFTER_THE_LAST_ROW):
            joined[name] = parts[-1]
        else:
            joined[name] = _concatenate(parts)
    return TeamFragment(**joined)


def _join_finals(fragments: list[TeamFragment]) -> Finals:
    parts = []
    start = 0
    for before, after in zip(fragments, [*fragments[1:], None], strict=True):
        end = start + len(before.valid)
        parts.append(vars(before.finals) | {"step": before.finals.step + start})
        if after is not None:
            parts.append(_cut_before_failure(before, after, end - 1))
        start = end
    return Finals(**{name: _concatenate([p[name] for p in parts]) for name in parts[0]})


def _cut_before_failure(
    before: TeamFragment, after: TeamFragment, last_step: int
) -> dict[str, Any]:
    """Where an environment failed in the first step of `after`, its episode ends with `before`.

    As in `Recorder.cut_before_failure`, for rows that are of two rollouts.
    """
    over = before.terminated[-1] | before.truncated[-1]
    envs = np.flatnonzero(before.valid[-1] & ~over & ~after.valid[0])
    before.truncated[-1, envs] = True
    ends: dict[str, Any] = {"step": np.full(len(envs), last_step, np.int64), "env": envs}
    for name in {f.name for f in fields(Finals)} - ends.keys():
        last = getattr(before, _AFTER_THE_LAST_ROW + name)
        rows = {m: x[envs] for m, x in last.items()} if isinstance(last, dict) else last
        ends[name] = rows[envs] if isinstance(rows, np.ndarray) else rows
    return ends


def _concatenate(parts: list[Any]) -> Any:
    """Arrays one behind the other on axis 0, those of dicts by their keys; None stays None."""
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return None if parts[0] is None else np.concatenate(parts)
