"""Checks of rewards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rllib_hetero.checking.calls import short
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.subject import Subject
from rllib_hetero.team import AgentID


def numbers(subject: Subject) -> Iterator[Fault]:
    """Rewards are single, finite numbers."""
    for moment in subject.recording:
        for agent, reward in moment.rewards.items():
            value = number(reward)
            if value is None:
                yield error(
                    f"agent {agent!r}, {moment.where}: {short(reward)} is not one number",
                    "Return a float for each agent.",
                    agent,
                )
            elif not np.isfinite(value):
                yield error(
                    f"agent {agent!r}, {moment.where}: {value}",
                    "Rewards must be finite as float32; training refuses the batch.",
                    agent,
                )


def number(reward: Any) -> float | None:
    """A reward as float32; None if it is not one number."""
    try:
        if np.ndim(reward) != 0 or isinstance(reward, str | bytes):
            return None
        with np.errstate(over="ignore"):
            return float(np.float32(reward))
    except (TypeError, ValueError):
        return None


def receivers(subject: Subject) -> Iterator[Fault]:
    """Rewards are for those that acted."""
    for moment in subject.recording:
        for agent, reward in moment.rewards.items():
            if agent not in subject.team.agents:
                yield error(
                    f"{moment.where}: a reward for {agent!r}, which is not in possible_agents",
                    "Leave it out, or list the agent in possible_agents.",
                    agent,
                )
            elif agent not in moment.acted and number(reward) and not subject.team.absences:
                yield warning(
                    f"agent {agent!r}, {moment.where}: a reward of {short(reward)}, though it did "
                    "not act",
                    "Nobody is trained on it, yet the team's return counts it. Leave it out.",
                    agent,
                )
        for agent in [a for a in moment.acted if a not in moment.rewards]:
            yield note(f"agent {agent!r}, {moment.where}: no reward; it counts as 0", "", agent)


def scheme(subject: Subject) -> Iterator[Fault]:
    """`reward_scheme` is what the rewards look like."""
    steps: list[tuple[str, dict[AgentID, float]]] = []
    for moment in subject.recording:
        values = {a: number(moment.rewards.get(a, 0.0)) for a in moment.acted}
        known = {a: v for a, v in values.items() if v is not None and np.isfinite(v)}
        steps.append((moment.where, known))
    if subject.team.reward_scheme == "shared":
        for where, given in steps:
            if given and not _equal(given):
                yield error(
                    f"reward_scheme is 'shared', but in {where}, the rewards are {given}",
                    "Give every living agent the team's reward, or declare "
                    "reward_scheme = 'individual'.",
                )
        return
    several = [given for _, given in steps if len(given) > 1]
    if several and all(map(_equal, several)) and any(any(v.values()) for v in several):
        yield warning(
            "reward_scheme is 'individual', but all agents were given equal rewards in every step",
            "The team's reward is their sum. If it is one reward that all are given, declare "
            "reward_scheme = 'shared', and it counts once.",
        )


def _equal(values: dict[AgentID, float]) -> bool:
    # Rounding differences between the agents are no difference.
    return bool(np.ptp(list(values.values())) <= 1e-5 * max(1e-6, *map(abs, values.values()), 0.0))
