"""Plays an environment with random allowed actions, and keeps what it returned."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_hetero.checking.calls import EnvironmentFault, call
from rllib_hetero.checking.choosing import RandomActions, read_masks
from rllib_hetero.team import AgentID, Team

_STEP = ("observations", "rewards", "terminateds", "truncateds", "infos")
_SHAPES = "reset() returns (observations, infos); step() returns " + str(_STEP).replace("'", "")


@dataclass
class Moment:
    """What one call of `reset` or `step` returned.

    Attributes:
        episode: Its number, from 0.
        step: Its number in the episode; 0 after the reset.
        observations: As returned; so are the next four. Empty where `reset` has none of it.
        rewards: Agent id to reward.
        terminateds: Agent id to flag, and "__all__".
        truncateds: Agent id to flag, and "__all__".
        infos: Agent id to info.
        acted: Who acted in this step.
        acting: Who is to act in the next one; nobody once the episode is over.
        actions: What was handed over, and `kept_actions` a copy made before.
        state: What `state()` returned, and `second_state` when it was called once more.
        over: Whether the episode is over.
        metrics: What `episode_metrics()` returned then, where the environment has that.
        kept_observations: A copy made at once; so is `kept_state`.
    """

    episode: int
    step: int
    observations: dict[AgentID, Any]
    rewards: dict[AgentID, Any] = field(default_factory=dict)
    terminateds: dict[AgentID, Any] = field(default_factory=dict)
    truncateds: dict[AgentID, Any] = field(default_factory=dict)
    infos: dict[AgentID, Any] = field(default_factory=dict)
    acted: tuple[AgentID, ...] = ()
    acting: tuple[AgentID, ...] = ()
    actions: dict[AgentID, Any] = field(default_factory=dict)
    kept_actions: dict[AgentID, Any] = field(default_factory=dict)
    state: Any = None
    second_state: Any = None
    over: bool = False
    metrics: Any = None
    kept_observations: dict[AgentID, Any] = field(default_factory=dict)
    kept_state: Any = None

    @property
    def where(self) -> str:
        """Episode and step, in words."""
        when = f"step {self.step}" if self.step else "after reset()"
        return f"episode {self.episode}, {when}"

    def is_done(self, agent: AgentID) -> bool:
        """Whether an agent's own flags end its part."""
        return truth(self.terminateds.get(agent)) or truth(self.truncateds.get(agent))


def play(env: Any, team: Team, *, seed: int, steps: int) -> Iterator[Moment]:
    """Resets and steps; equal seeds give equal actions as long as the environment is the same.

    Args:
        env: A `MultiAgentEnv`.
        team: Its team.
        seed: Of the actions; episode k is reset with seed + k.
        steps: How many, over all episodes.

    Raises:
        EnvironmentFault: If the environment raises, or returns what is not a step's outcome.
    """
    choose = RandomActions(team, seed)
    moment = reset(env, team, 0, seed)
    yield moment
    for _ in range(steps):
        if moment.over:
            moment = reset(env, team, moment.episode + 1, seed + moment.episode + 1)
            yield moment
        masks = read_masks(team, moment.observations)
        moment = step(env, team, moment, choose(moment.acting, masks))
        yield moment


def reset(env: Any, team: Team, episode: int, seed: int | None) -> Moment:
    """Starts an episode."""
    where = f"at the start of episode {episode}"
    returned = call(env.reset, seed=seed, name="reset()", where=where, agents=team.agents)
    observations, infos = _read(returned, ("observations", "infos"), "reset()", where)
    moment = Moment(episode, 0, observations, infos=infos)
    moment.acting = tuple(a for a in team.agents if a in observations)
    return _keep(env, team, moment)


def step(env: Any, team: Team, before: Moment, actions: dict[AgentID, Any]) -> Moment:
    """Steps with the actions of those that act."""
    where = f"episode {before.episode}, step {before.step + 1}"
    kept = {a: _copy(u) for a, u in actions.items()}
    returned = call(
        env.step, dict(actions), name="step()", where=where, agents=team.agents, actions=kept
    )
    parts = dict(zip(_STEP, _read(returned, _STEP, "step()", where), strict=True))
    moment = Moment(before.episode, before.step + 1, **parts)  # type: ignore[arg-type]
    moment.acted, moment.actions, moment.kept_actions = before.acting, actions, kept
    moment.acting = tuple(
        a for a in team.agents if a in moment.observations and not moment.is_done(a)
    )
    ends = moment.terminateds.get("__all__"), moment.truncateds.get("__all__")
    nobody_left = not moment.acting and not team.absences
    moment.over = truth(ends[0]) or truth(ends[1]) or nobody_left
    if moment.over and hasattr(env, "episode_metrics"):
        moment.metrics = call(env.episode_metrics, name="episode_metrics()", where=where)
    return _keep(env, team, moment)


def truth(flag: Any) -> bool:
    """A flag as the runner reads it; what cannot be read is False."""
    try:
        return bool(flag)
    except Exception:
        return False


def _keep(env: Any, team: Team, moment: Moment) -> Moment:
    if team.state_space is not None:
        moment.state = call(env.state, name="state()", where=moment.where)
        moment.kept_state = _copy(moment.state)
        moment.second_state = _copy(call(env.state, name="state()", where=moment.where))
    moment.kept_observations = {a: _copy(x) for a, x in moment.observations.items()}
    return moment


def _copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _read(returned: Any, parts: tuple[str, ...], name: str, where: str) -> list[dict]:
    if not isinstance(returned, tuple | list) or len(returned) != len(parts):
        got = f"{len(returned)} values" if isinstance(returned, tuple) else type(returned).__name__
        raise EnvironmentFault(
            f"{name} returned {got} where {len(parts)} are needed, {where}.",
            f"{_SHAPES}, each a dict by agent id.",
            (name, "returned"),
        )
    for part, value in zip(parts, returned, strict=True):
        if not isinstance(value, Mapping):
            raise EnvironmentFault(
                f"The {part} that {name} returned are of type {type(value).__name__}, {where}.",
                f"{_SHAPES}, each a dict by agent id.",
                (name, part),
            )
    # The dicts are copied: the environment may go on using its own.
    return [dict(value) for value in returned]
