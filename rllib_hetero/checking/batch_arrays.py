"""Whether the arrays of a natively batched environment can be read at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rllib_hetero.checking.calls import call
from rllib_hetero.checking.choosing import RandomActions
from rllib_hetero.checking.findings import Fault, error
from rllib_hetero.checking.row_view import row_actions, stack
from rllib_hetero.functional import num_choices
from rllib_hetero.runners.vector_env import Outcome
from rllib_hetero.spaces import row_dtype
from rllib_hetero.team import Team

_STEPS = 3


def arrays(env: Any, seed: int) -> Iterator[Fault]:
    """The attributes and the outcomes have the shapes and types of `VectorTeamEnv`.

    Args:
        env: The `VectorTeamEnv`.
        seed: Of its first reset.
    """
    team = getattr(env, "team", None)
    if not isinstance(team, Team):
        yield error(f"`team` is {type(team).__name__}", "Set self.team = Team(...) in __init__.")
        return
    if not isinstance(getattr(env, "num_envs", None), int):
        yield error("`num_envs` is not an int", "Set self.num_envs in __init__.")
        return
    envs = list(range(env.num_envs))
    call(env.reset, envs, [seed] * len(envs), name="reset()", agents=team.agents)
    choose = RandomActions(team, seed)
    for t in range(_STEPS + 1):
        when = f"after step {t}" if t else "after reset()"
        faults = list(_attributes(env, when))
        yield from faults
        if faults or t == _STEPS:
            return
        actions = stack([row_actions(env, e, choose) for e in envs], env)
        outcome = call(env.step, actions, name="step()", where=f"step {t + 1}", agents=team.agents)
        faults = list(_outcome(env, outcome))
        yield from faults
        if faults:
            return
        done = np.flatnonzero(outcome.terminated | outcome.truncated | outcome.failed).tolist()
        if done:
            call(env.reset, done, [seed] * len(done), name="reset()", where=f"of {done}")


def _attributes(env: Any, when: str) -> Iterator[Fault]:
    n, team = env.num_envs, env.team
    wanted: list[tuple[str, Any, tuple[int, ...], Any]] = [
        ("active", getattr(env, "active", None), (n, len(team.agents)), bool),
    ]
    rows = team.row_spaces
    kinds: Any = (
        ("observations", team.agents, lambda a: rows[a].shape, lambda a: row_dtype(rows[a])),
        ("masks", team.masked, lambda a: (num_choices(team.moves[a].flat),), lambda a: bool),
    )
    for what, agents, width, kind in kinds:
        held = getattr(env, what, None)
        held = held if isinstance(held, Mapping) else {}
        if what == "observations" and set(held) != set(team.agents):
            yield error(
                f"`observations` holds {sorted(map(str, held))} {when}, the agents are "
                f"{list(team.agents)}",
                "It holds an array (E, d) for every agent, also for inactive ones.",
            )
        wanted += [(f"{what}[{a!r}]", held.get(a), (n, *width(a)), kind(a)) for a in agents]
    state = getattr(env, "state", None)
    if team.state_rows is not None:
        wanted.append(("state", state, (n, *team.state_rows.shape), row_dtype(team.state_rows)))
    elif state is not None:
        yield error(
            f"`state` is set {when}, the team has no state_space",
            "Make the Team with state_space=Box(...), or set self.state = None.",
        )
    for name, array, shape, dtype in wanted:
        yield from _array(f"`{name}` {when}", array, shape, dtype)
    infos = getattr(env, "infos", None)
    if (
        not isinstance(infos, list)
        or len(infos) != n
        or not all(isinstance(i, dict) for i in infos)
    ):
        yield error(
            f"`infos` is no list of {n} dicts {when}",
            "Set self.infos = [{} for _ in range(num_envs)].",
        )


def _outcome(env: Any, outcome: Any) -> Iterator[Fault]:
    if not isinstance(outcome, Outcome):
        yield error(
            f"step() returned {type(outcome).__name__}",
            "Return Outcome(rewards, terminated, truncated, failed).",
        )
        return
    n = env.num_envs
    rewards = (n, len(env.team.agents))
    yield from _array("rewards of the Outcome", outcome.rewards, rewards, np.float32)
    for name in ("terminated", "truncated", "failed"):
        yield from _array(f"{name} of the Outcome", getattr(outcome, name), (n,), bool)


def _array(name: str, array: Any, shape: tuple[int, ...], dtype: Any) -> Iterator[Fault]:
    if isinstance(array, np.ndarray) and array.shape == shape and array.dtype == dtype:
        return
    is_array = isinstance(array, np.ndarray)
    got = f"{array.dtype} of shape {array.shape}" if is_array else type(array).__name__
    yield error(
        f"{name}: {got}",
        f"A numpy array of {np.dtype(dtype)} of shape {shape} is needed, where the first axis is "
        "num_envs.",
    )
