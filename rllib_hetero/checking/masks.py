"""Checks of action masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from gymnasium.spaces import Discrete

from rllib_hetero.checking.calls import EnvironmentFault, short
from rllib_hetero.checking.choosing import RandomActions, components, read_masks
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.playing import reset, step
from rllib_hetero.checking.subject import Subject
from rllib_hetero.functional import num_choices
from rllib_hetero.spaces import is_mixed
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS


def shapes(subject: Subject) -> Iterator[Fault]:
    """Every observation of a masked agent holds its mask, one number for each choice."""
    team = subject.team
    for moment in subject.recording:
        for agent in team.masked & moment.kept_observations.keys():
            observation = moment.kept_observations[agent]
            size = num_choices(team.moves[agent].flat)
            mend = f"Return {{'{OBSERVATIONS}': ..., '{ACTION_MASK}': array of shape ({size},)}}."
            if not isinstance(observation, Mapping) or not (
                {OBSERVATIONS, ACTION_MASK} <= set(observation)
            ):
                yield error(
                    f"agent {agent!r}, {moment.where}: its observation space has an action mask, "
                    f"the observation has none: {short(observation)}",
                    mend,
                    agent,
                )
                continue
            mask = np.asarray(observation[ACTION_MASK])
            if mask.dtype.kind not in "biuf" or mask.shape != (size,):
                yield error(
                    f"agent {agent!r}, {moment.where}: the mask is {mask.dtype} of shape "
                    f"{mask.shape}; {team.action_spaces[agent]} has {size} choices",
                    mend,
                    agent,
                )


def empty(subject: Subject) -> Iterator[Fault]:
    """Everybody who is to act has an allowed choice, of every component."""
    for moment in subject.recording:
        if moment.over:
            continue
        for agent, mask in read_masks(subject.team, moment.kept_observations).items():
            parts = components(subject.team.moves[agent].flat, mask)
            if agent in moment.acting and not all(p.any() for p in parts):
                which = [bool(p.any()) for p in parts].index(False)
                yield error(
                    f"agent {agent!r}, {moment.where}: the mask allows nothing"
                    + (f" in component {which}" if len(parts) > 1 else ""),
                    "A living agent needs an allowed choice; give it a no-op.",
                    agent,
                )


def undeclared(subject: Subject) -> Iterator[Fault]:
    """Masks that are returned, but not declared, are not used."""
    for moment in subject.recording:
        for agent in subject.team.agents:
            if agent in subject.team.masked:
                continue
            seen, info = moment.kept_observations.get(agent), moment.infos.get(agent)
            if isinstance(seen, Mapping) and ACTION_MASK in seen:
                yield error(
                    f"agent {agent!r}, {moment.where}: the observation has an '{ACTION_MASK}', its "
                    "space has none",
                    f"Make its observation space a Dict of '{OBSERVATIONS}' and '{ACTION_MASK}'.",
                    agent,
                )
            elif isinstance(info, Mapping) and ACTION_MASK in info:
                yield warning(
                    f"agent {agent!r}, {moment.where}: the info has an '{ACTION_MASK}', which "
                    "nobody reads",
                    f"Move it into the observation, as a Dict of '{OBSERVATIONS}' and "
                    f"'{ACTION_MASK}'. PettingZooTeamEnv(env, action_masks='info') does it.",
                    agent,
                )


def forbidden(subject: Subject) -> Iterator[Fault]:
    """Whether the environment objects to a forbidden action. It need not."""
    team, choose = subject.team, RandomActions(subject.team, 0)
    with subject.fresh() as env:
        moment = reset(env, team, 0, subject.settings.seed)
        for _ in range(50):
            masks = read_masks(team, moment.observations)
            actions = choose(moment.acting, masks)
            refused = [
                a
                for a in moment.acting
                if a in masks and not masks[a].all() and not is_mixed(team.moves[a].flat)
            ]
            if refused:
                agent = refused[0]
                # The first forbidden choice of each component; 0 where all are allowed.
                moves = team.moves[agent]
                wrong = [int(p.argmin()) for p in components(moves.flat, masks[agent])]
                flat = wrong[0] if isinstance(moves.flat, Discrete) else np.array(wrong)
                actions[agent] = moves.decode_one(flat)
                try:
                    step(env, team, moment, actions)
                except EnvironmentFault:
                    return
                yield note(f"agent {agent!r}: {actions[agent]} is forbidden, and was accepted")
                return
            moment = step(env, team, moment, actions)
            if moment.over:
                return
