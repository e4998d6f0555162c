"""Checks that play again: seeds, and what one episode or environment does to another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from rllib_hetero.checking.calls import CannotTellError, short
from rllib_hetero.checking.findings import Fault, error, note, warning
from rllib_hetero.checking.observations import same
from rllib_hetero.checking.playing import Moment, reset
from rllib_hetero.checking.subject import Subject

_STEPS = 50
_SEEDED = (
    "Draw everything random in an episode from a generator made in reset(seed=...): "
    "self.rng = np.random.default_rng(seed). "
)
_NONE = "If it cannot be, say deterministic = False in the environment: this is then a note."


def first_difference(one: list[Moment], other: list[Moment]) -> str | None:
    """Where two plays differ first, in words; None if nowhere."""
    for x, y in zip_longest(one, other):
        if x is None or y is None:
            return "one of them has more steps"
        parts: tuple[tuple[str, dict, dict], ...] = (
            ("observation", x.kept_observations, y.kept_observations),
            ("reward", x.rewards, y.rewards),
            ("terminated", x.terminateds, y.terminateds),
            ("truncated", x.truncateds, y.truncateds),
            ("state", {"": x.kept_state}, {"": y.kept_state}),
        )
        for what, a, b in parts:
            if a.keys() != b.keys():
                return f"{x.where}: {what}s of {short(list(a))} and of {short(list(b))}"
            for agent in a:
                if not same(a[agent], b[agent]):
                    whose = f" of {agent!r}" if agent != "" else ""
                    return f"{x.where}: {what}{whose} {short(a[agent])} and {short(b[agent])}"
    return None


def determinism(subject: Subject) -> Iterator[Fault]:
    """reset(seed) and the same actions give the same episodes."""
    seed = subject.settings.seed
    first, again = (_play(subject, 0, seed) for _ in range(2))
    tell = warning if subject.deterministic else note
    difference = first_difference(first, again)
    if difference:
        yield tell(
            f"the same environment, seed and actions, played twice: {difference}",
            _SEEDED + _NONE if subject.deterministic else "",
        )
        return
    fresh = _play(subject, 1, seed)
    difference = first_difference(fresh, first)
    if difference:
        yield tell(
            f"the same seed and actions in a new environment and in a used one: {difference}",
            "Something is carried from one episode to the next: reset() must set everything that "
            "matters. " + _NONE,
        )


def seeds(subject: Subject) -> Iterator[Fault]:
    """Other seeds give other starts."""
    starts = [_start(subject, subject.settings.seed + k) for k in range(6)]
    if all(first_difference([starts[0]], [start]) is None for start in starts):
        yield note(
            "6 seeds gave the same start",
            "Fine if every episode is to start alike; otherwise read `seed` in reset().",
        )


def middle(subject: Subject) -> Iterator[Fault]:
    """reset() may come in the middle of an episode."""
    seed = subject.settings.seed
    start = _start(subject, seed)
    repeatable = first_difference([start], [_start(subject, seed)]) is None
    for moment in subject.play(subject.env(), seed=seed + 1, steps=2):
        if moment.over:
            break
    cut = _start(subject, seed)
    missing = [a for a in subject.team.agents if a not in cut.observations]
    difference = first_difference([start], [cut])
    if missing and not subject.team.absences:
        yield error(
            f"reset() in the middle of an episode returned no observation for {missing}",
            "reset() must start an episode with all agents, whatever came before.",
        )
    elif difference and repeatable and subject.deterministic:
        yield warning(
            f"reset(seed={seed}) in the middle of an episode gave another start: {difference}",
            "reset() must set everything that matters.",
        )


def instances(subject: Subject) -> Iterator[Fault]:
    """Two environments in one process do not influence each other."""
    seed, other = subject.settings.seed, subject.settings.seed + 1000
    if not subject.deterministic:
        raise CannotTellError("the environment promises no determinism")
    alone = [_play(subject, 0, seed), _play(subject, 1, other)]
    if first_difference(alone[0], _play(subject, 0, seed)):
        raise CannotTellError("the same seed does not give the same episodes")
    together: list[list[Moment]] = [[], []]
    plays = [
        subject.play(subject.env(0), seed=seed, steps=_STEPS),
        subject.play(subject.env(1), seed=other, steps=_STEPS),
    ]
    for moments in zip_longest(*plays):
        for kept, moment in zip(together, moments, strict=True):
            if moment is not None:
                kept.append(moment)
    for solo, duet in zip(alone, together, strict=True):
        difference = first_difference(solo, duet)
        if difference:
            yield error(
                f"stepped alone, and in turn with a second environment: {difference}",
                "Runners hold many environments in a process. Look for what they share: class "
                "attributes, module globals, np.random or random without a generator of one's own.",
            )
            return


def _play(subject: Subject, which: int, seed: int) -> list[Moment]:
    return list(subject.play(subject.env(which), seed=seed, steps=_STEPS))


def _start(subject: Subject, seed: int) -> Moment:
    subject.hurry()
    return reset(subject.env(), subject.team, 0, seed)
