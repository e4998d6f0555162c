"""Checks of who takes part, and of how parts and episodes end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from rllib_hetero.checking.calls import short
from rllib_hetero.checking.findings import Fault, error, warning
from rllib_hetero.checking.observations import as_numbers, plain
from rllib_hetero.checking.playing import Moment, truth
from rllib_hetero.checking.subject import Subject
from rllib_hetero.team import AgentID


def agents_fixed(subject: Subject) -> Iterator[Fault]:
    """`possible_agents` stays what it was, and nobody else turns up."""
    now = tuple(subject.env().possible_agents)
    if now != subject.team.agents:
        yield error(
            f"possible_agents was {list(subject.team.agents)}, and is {list(now)} after some "
            "episodes",
            "A team is fixed. Change `agents` only, and give possible_agents a list of its own.",
        )
    for moment in subject.recording:
        for agent in moment.observations.keys() - set(subject.team.agents):
            yield error(
                f"{moment.where}: an observation for {agent!r}, which is not in possible_agents",
                "List every agent that ever takes part in possible_agents.",
                agent,
            )


def agents_at_reset(subject: Subject) -> Iterator[Fault]:
    """Everybody is there when an episode starts, also after the end of another."""
    for moment in subject.recording:
        missing = [a for a in subject.team.agents if a not in moment.observations]
        if moment.step == 0 and missing and not subject.team.absences:
            yield error(
                f"episode {moment.episode}: reset() returned no observation for {missing}",
                "Every agent of possible_agents starts every episode; it may end its part later "
                "with terminateds[agent] = True. If agents come later, say absences = True in the "
                "environment.",
            )


def comings_and_goings(subject: Subject) -> Iterator[Fault]:
    """An agent that leaves says so, and does not come back."""
    if subject.team.absences:
        return
    for before, moment in _pairs(subject.recording):
        if moment.over:
            continue
        for agent in subject.team.agents:
            there = agent in moment.observations
            if moment.is_done(agent) or (agent in before.acting) == there:
                continue
            if there:
                yield error(
                    f"agent {agent!r} came back after its end, {moment.where}",
                    "An agent that has ended its part stays away until the next reset(), unless "
                    "the environment says absences = True.",
                    agent,
                )
            else:
                yield error(
                    f"agent {agent!r} left without an end, {moment.where}",
                    "Set terminateds[agent] or truncateds[agent] in the step in which it dies, or "
                    "say absences = True in the environment if agents come and go. Environments "
                    "with turns are not supported.",
                    agent,
                )


def flags(subject: Subject) -> Iterator[Fault]:
    """Both flag dicts hold booleans, of known agents, and "__all__"."""
    for moment in subject.recording:
        if moment.step == 0:
            continue
        for name, ends in (
            ("terminateds", moment.terminateds),
            ("truncateds", moment.truncateds),
        ):
            if "__all__" not in ends:
                # The runner needs the first and takes the second for False.
                tell = error if name == "terminateds" else warning
                yield tell(
                    f"{moment.where}: {name} lacks the key '__all__'",
                    f"Return {name}['__all__'], True once the episode is over for the whole team.",
                )
            for agent, flag in ends.items():
                if agent != "__all__" and agent not in subject.team.agents:
                    yield error(
                        f"{moment.where}: {name} names {agent!r}, which is not in possible_agents",
                        "Leave it out, or list the agent in possible_agents.",
                    )
                elif not isinstance(flag, bool | np.bool_ | int):
                    yield error(
                        f"{moment.where}: {name}[{agent!r}] is {short(flag)}, no boolean",
                        "Return True or False.",
                    )


def both_ends(subject: Subject) -> Iterator[Fault]:
    """An end is a termination or a truncation."""
    for moment in subject.recording:
        for agent in moment.terminateds:
            if truth(moment.terminateds[agent]) and truth(moment.truncateds.get(agent)):
                yield warning(
                    f"{moment.where}: {agent!r} is terminated and truncated; it counts as "
                    "terminated",
                    "Set truncateds only where the time is over and the task is not: then the "
                    "value of the last state is bootstrapped.",
                )


def nobody_left(subject: Subject) -> Iterator[Fault]:
    """The episode is over when everybody's part is."""
    for moment in subject.recording:
        ends = moment.terminateds.get("__all__"), moment.truncateds.get("__all__")
        ended = any(map(truth, ends)) or subject.team.absences
        if moment.step and not moment.acting and not ended:
            yield warning(
                f"{moment.where}: no agent is left, and '__all__' is False",
                "Set terminateds['__all__'] (or truncateds['__all__']) once all agents are done. "
                "The runner ends the episode there.",
            )


def time_limit(subject: Subject) -> Iterator[Fault]:
    """Episodes end."""
    if subject.fault is None and subject.recording and not any(m.over for m in subject.recording):
        yield warning(
            f"no episode ended within {subject.recording[-1].step} steps",
            "Give the environment a time limit that sets truncateds['__all__'], or check it for "
            "longer: check_env(..., steps=..., seconds=...).",
        )


def final_observations(subject: Subject) -> Iterator[Fault]:
    """What is bootstrapped from is there."""
    for moment in subject.recording:
        if not truth(moment.truncateds.get("__all__")):
            continue
        for agent in moment.acted:
            if agent not in moment.observations and not truth(moment.terminateds.get(agent)):
                yield error(
                    f"agent {agent!r}, {moment.where}: truncated, without a final observation",
                    "Return the final observations with the last step: their value is "
                    "bootstrapped, and zeros would stand for them.",
                    agent,
                )


def restarts(subject: Subject) -> Iterator[Fault]:
    """The final observations are not those of a new episode.

    Looked for in what all episodes start with alike (clocks, zeros): suspicious is what leaves
    its first value in every episode, and has it again in every last observation.
    """
    for agent in subject.team.agents:
        starts, before_ends, ends = _starts_and_ends(subject, agent)
        if len(ends) < 3 or len({x.shape for x in (*starts, *before_ends, *ends)}) != 1:
            continue
        again = (np.stack(starts) == starts[0]).all(0) & (np.stack(ends) == starts[0]).all(0)
        suspicious = again & (np.stack(before_ends) != starts[0]).all(0)
        if suspicious.any():
            yield warning(
                f"agent {agent!r}: at index {int(suspicious.argmax())} every final observation is "
                "that of a new episode",
                "Return the final observations with the last step, and do not reset in step(): "
                "the value of the last state is bootstrapped, and reset() is called anyway.",
                agent,
            )


def _starts_and_ends(
    subject: Subject, agent: AgentID
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """The first observations of the episodes, the last but one and the last."""
    starts, before_ends, ends = [], [], []
    for before, moment in _pairs(subject.recording):
        x, y = (
            as_numbers(plain(subject, agent, m.kept_observations.get(agent)))
            for m in (before, moment)
        )
        if x is None or y is None or x.ndim != 1:
            continue
        if before.step == 0:
            starts.append(x)
        elif moment.over:
            before_ends.append(x)
            ends.append(y)
    return starts, before_ends, ends


def _pairs(recording: list[Moment]) -> Iterator[tuple[Moment, Moment]]:
    """Moments of one episode that follow each other."""
    for before, moment in itertools.pairwise(recording):
        if moment.step:
            yield before, moment
