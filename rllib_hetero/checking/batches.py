"""Checks of many environments side by side; some are for those batched by nature only."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rllib_hetero.checking.calls import CannotTellError, EnvironmentFault, call, short
from rllib_hetero.checking.choosing import RandomActions
from rllib_hetero.checking.findings import Fault, error, warning
from rllib_hetero.checking.observations import same
from rllib_hetero.checking.row_view import row_actions, stack
from rllib_hetero.checking.subject import Subject
from rllib_hetero.errors import TeamError
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID

_STEPS = 30


@dataclass
class Look:
    """A batch after a step, before those that are done are reset.

    Attributes:
        arrays: Name to a copy of each of its arrays; the first axis is E.
        outcome: What the step returned; None after the first reset.
        before: (E, n) who was to act in the step.
        changed: Agents whose actions the step changed.
    """

    arrays: dict[str, np.ndarray]
    outcome: Outcome | None = None
    before: np.ndarray | None = None
    changed: tuple[AgentID, ...] = ()


def play_rows(subject: Subject, env: VectorTeamEnv, seeds: Sequence[int]) -> Iterator[Look]:
    """Plays a batch; row e depends on seeds[e] alone, as long as rows are independent."""
    choosers = [RandomActions(env.team, seed) for seed in seeds]
    episodes = np.zeros(len(seeds), int)
    rows = list(range(len(seeds)))
    call(env.reset, rows, list(seeds), name="reset()", agents=env.team.agents)
    yield Look(_copy_arrays(env))
    for t in range(_STEPS):
        subject.hurry()
        actions = stack([row_actions(env, e, choosers[e]) for e in rows], env)
        kept = copy.deepcopy(actions)
        before = env.active.copy()
        where = f"step {t + 1} of {len(rows)} environments side by side"
        outcome = call(env.step, actions, name="step()", where=where, agents=env.team.agents)
        changed = tuple(a for a, u in kept.items() if not same(u, actions[a]))
        yield Look(_copy_arrays(env), outcome, before, changed)
        done = np.flatnonzero(outcome.terminated | outcome.truncated | outcome.failed).tolist()
        if done:
            episodes[done] += 1
            again = [seeds[e] + int(episodes[e]) for e in done]
            call(env.reset, done, again, name="reset()", where=f"of the environments {done}")


def _copy_arrays(env: VectorTeamEnv) -> dict[str, np.ndarray]:
    arrays = {f"observations of {a!r}": x.copy() for a, x in env.observations.items()}
    arrays |= {f"masks of {a!r}": env.masks[a].copy() for a in env.team.masked}
    arrays["active"] = env.active.copy()
    if env.state is not None:
        arrays["state"] = env.state.copy()
    return arrays


def side_by_side(subject: Subject) -> Iterator[Fault]:
    """The team env runner's own way of stepping several environments takes it."""
    n = subject.settings.num_envs
    try:
        for _ in play_rows(subject, subject.batch(n), _seeds(subject)):
            pass
    except EnvironmentFault as fault:
        if not isinstance(fault.__cause__, TeamError):
            raise
        yield error(str(fault.__cause__), "Training would be refused with this message.")


# ---- batched by nature only ---------------------------------------------------------------------


def contract(subject: Subject) -> Iterator[Fault]:
    """What `VectorTeamEnv` promises of each step."""
    agents = subject.team.agents
    never = "An inactive agent has zeros as observation, no reward, and a mask of True."
    for look in play_rows(subject, subject.batch(subject.settings.num_envs), _seeds(subject)):
        active = look.arrays["active"]
        over = np.zeros(len(active), bool)
        if look.outcome is None:
            if not active.all() and not subject.team.absences:
                yield error(
                    f"active is {active.tolist()} after reset()",
                    "reset() sets `active` to True for the environments that it resets.",
                )
        else:
            over = look.outcome.terminated | look.outcome.truncated | look.outcome.failed
            if (look.outcome.terminated & look.outcome.truncated).any():
                yield error(
                    "terminated and truncated are both True for one environment",
                    "An end is one or the other: set truncated & ~terminated.",
                )
            assert look.before is not None
            back = ~look.before & active & (not subject.team.absences)
            for e, i in np.argwhere(over[:, None] & back):
                yield warning(
                    f"agent {agents[i]!r}, environment {e}: active again in the step that ended "
                    "the episode",
                    "A batch never resets by itself: the runner reads the final observations, then "
                    "calls reset().",
                    agents[i],
                )
            idle = ~look.before & (not subject.team.absences)
            for e, i in np.argwhere(idle & (look.outcome.rewards != 0)):
                yield error(
                    f"agent {agents[i]!r}, environment {e}: inactive, with a reward of "
                    f"{look.outcome.rewards[e, i]:g}",
                    never,
                )
        for agent in look.changed:
            yield warning(
                f"agent {agent!r}: step() changed the actions it was given",
                "Here it is given copies; elsewhere the changed actions would be trained on. Work "
                "on a copy: action = action * 2 in place of action *= 2.",
                agent,
            )
        # What a truncation leaves is read once more, for the bootstrap.
        read = ~over if look.outcome is None else ~over | look.outcome.truncated
        for e, i in np.argwhere(~active & read[:, None]):
            agent = agents[i]
            masks = look.arrays.get(f"masks of {agent!r}")
            row = look.arrays[f"observations of {agent!r}"][e]
            if row.any() or not (masks is None or masks[e].all()):
                yield error(
                    f"agent {agent!r}, environment {e}: inactive, with the observation "
                    f"{short(row)}" + ("" if masks is None else f" and the mask {short(masks[e])}"),
                    never,
                    agent,
                )


def partial_reset(subject: Subject) -> Iterator[Fault]:
    """reset() touches the environments that it is given, and no other."""
    n = subject.settings.num_envs
    if n < 2:
        raise CannotTellError("it takes two environments (num_envs=...)")
    env = subject.batch(n)
    for k, look in enumerate(play_rows(subject, env, _seeds(subject))):
        if k == 0:
            continue
        assert look.outcome is not None
        if (look.outcome.terminated | look.outcome.truncated)[1:].any() and k < _STEPS:
            continue  # These would be reset anyway.
        call(env.reset, [0], [subject.settings.seed + 77], name="reset()", where="of one alone")
        for name, array in _copy_arrays(env).items():
            rows = [e for e in range(1, n) if not np.array_equal(array[e], look.arrays[name][e])]
            if rows:
                yield error(
                    f"resetting environment 0 changed the {name} in environments {rows}",
                    "reset(envs, seeds) writes into the rows `envs` only.",
                )
        return


def rows_agree(subject: Subject) -> Iterator[Fault]:
    """A row of many is what it is alone."""
    seeds = _seeds(subject)
    if not subject.deterministic:
        raise CannotTellError("the environment promises no determinism")
    many = list(play_rows(subject, subject.batch(len(seeds)), seeds))
    alone_env = subject.batch(1)
    for e, seed in enumerate(seeds):
        for t, (one, all_) in enumerate(
            zip(play_rows(subject, alone_env, [seed]), many, strict=True)
        ):
            found = {"rewards": (one.outcome, all_.outcome)} if one.outcome else {}
            pairs = {k: (x, all_.arrays[k]) for k, x in one.arrays.items()}
            pairs |= {k: (x.rewards, y.rewards) for k, (x, y) in found.items() if x and y}
            unequal = [
                f"the {name}: {short(x[0])} and {short(y[e])}"
                for name, (x, y) in pairs.items()
                if not np.allclose(x[0], y[e], rtol=1e-3, atol=1e-4, equal_nan=True)
            ]
            if unequal:
                yield warning(
                    f"environment {e} of {len(seeds)} and the same one alone differ in step {t}, "
                    f"in {unequal[0]}",
                    "Rows must not depend on each other, nor on their number: give each a random "
                    "generator of its own, made from its seed.",
                )
                return


def _seeds(subject: Subject) -> list[int]:
    return [subject.settings.seed + 100 * e for e in range(subject.settings.num_envs)]
