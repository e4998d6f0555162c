"""Checks of what the environment does with actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rllib_hetero.checking.calls import EnvironmentFault, short
from rllib_hetero.checking.choosing import (
    RandomActions,
    components,
    finite_bounds,
    read_masks,
)
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.observations import numbers_of, plain, same
from rllib_hetero.checking.playing import Moment, reset, step
from rllib_hetero.checking.rewards import number
from rllib_hetero.checking.subject import Subject
from rllib_hetero.spaces import is_mixed

_MOST = 100  # extreme actions of one agent


def untouched(subject: Subject) -> Iterator[Fault]:
    """step() leaves the arrays it is given as they are."""
    for moment in subject.recording:
        for agent, action in moment.actions.items():
            if not same(action, moment.kept_actions[agent]):
                yield warning(
                    f"agent {agent!r}, {moment.where}: step() changed the action it was given from "
                    f"{short(moment.kept_actions[agent])} to {short(action)}",
                    "Here it is given a copy; elsewhere the changed action would be trained on. "
                    "Work on a copy: action = action * 2 in place of action *= 2.",
                    agent,
                )


def extremes(subject: Subject) -> Iterator[Fault]:
    """Every choice, and the ends of every Box, are accepted."""
    team, env = subject.team, subject.env()
    choose = RandomActions(team, subject.settings.seed)
    moment, episode = None, 0
    was_finite = all(_is_finite(subject, m) for m in subject.recording)  # else told already
    for agent in team.agents:
        moves = team.moves[agent]
        tried = _extremes(moves.flat)
        if len(tried) > _MOST:
            yield note(f"agent {agent!r}: {_MOST} of its {len(tried)} choices were tried")
        for component, extreme in tried[:_MOST]:
            subject.hurry()
            if moment is None or moment.over or agent not in moment.acting:
                moment = reset(env, team, episode, subject.settings.seed + episode)
                episode += 1
            masks = read_masks(team, moment.observations)
            actions = choose(moment.acting, masks)
            if agent not in actions:
                break  # told by another check
            flat = actions[agent] if moves.plain else choose.flat(agent, masks.get(agent))
            actions[agent] = moves.decode_one(_put(flat, component, extreme))
            if agent in masks and not isinstance(component, slice):
                allowed = components(moves.flat, masks[agent])[component or 0]
                if not allowed[extreme]:
                    continue
            shown = short(actions[agent])
            try:
                moment = step(env, team, moment, actions)
            except EnvironmentFault as fault:
                yield error(
                    f"agent {agent!r} did {shown}, which is in its action space: {fault.seen}",
                    "Accept every action of the space, or narrow the space.",
                    agent,
                )
                moment = None
                continue
            if was_finite and not _is_finite(subject, moment):
                yield error(
                    f"agent {agent!r} did {shown}, which is in its action space, and an "
                    "observation or a reward became NaN or infinite",
                    "Accept every action of the space, or narrow the space.",
                    agent,
                )


def _is_finite(subject: Subject, moment: Moment) -> bool:
    rows = subject.team.row_spaces
    seen = [
        numbers_of(rows[a], plain(subject, a, x))
        for a, x in moment.kept_observations.items()
        if a in rows
    ]
    rewards = [number(r) for r in moment.rewards.values()]
    return all(np.isfinite(x).all() for x in (*seen, *rewards) if x is not None)


def _extremes(space: Any) -> list[tuple[int | slice | None, Any]]:
    """(component, value) of the ends of a Box or of all choices; None for the whole action."""
    if is_mixed(space):
        choices: Any = space.spaces[0]
        numbers = slice(len(choices.nvec), None)
        return _extremes(choices) + [(numbers, x) for _, x in _extremes(space.spaces[1])]
    if isinstance(space, Box):
        low, high = (b.astype(space.dtype) for b in finite_bounds(space))
        return [(None, low), (None, high), (None, np.clip(np.zeros_like(low), low, high))]
    if isinstance(space, Discrete):
        return [(None, u) for u in range(int(space.n))]
    return [(k, u) for k, n in enumerate(space.nvec) for u in range(int(n))]


def _put(action: Any, component: int | slice | None, value: Any) -> Any:
    if component is None:
        return value.copy() if isinstance(value, np.ndarray) else value
    action = np.array(action)
    action[component] = value
    return action
