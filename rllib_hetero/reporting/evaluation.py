"""Plays episodes with a checkpoint's policies, and counts what the benchmark counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rllib_hetero.errors import TeamError
from rllib_hetero.policies import TeamPolicies
from rllib_hetero.reporting.playing import as_one_row, make_one, play
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.team import differences


@dataclass
class Episodes:
    """What was counted, one number for each episode.

    Attributes:
        returns: The team's returns.
        lengths: Environment steps.
        metrics: The benchmark's own numbers, such as "win_rate".
    """

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def evaluate(
    policies: TeamPolicies,
    make_env: Callable[[Any], Any],
    env_config: Mapping[str, Any],
    *,
    episodes: int,
    seed: int = 0,
    explore: bool = False,
    max_steps: int = 100_000,
) -> Episodes:
    """Plays whole episodes, one after another. Ray is not started.

    Args:
        policies: From `load_policies`.
        make_env: What `config.environment(...)` takes.
        env_config: What the environment is made with.
        episodes: How many.
        seed: The first episode's; each later one has the next.
        explore: Explore as in training instead of acting greedily.
        max_steps: An episode that is longer is an error.

    Raises:
        TeamError: If the environment's team is not the policies', or an episode does not end.
        TeamDataError: If the environment returns NaN or infinity.
    """
    env = as_one_row(make_one(make_env, env_config))
    try:
        _check_team(env, policies)
        policies.seed(seed)
        played = Episodes()
        for number in range(seed, seed + episodes):
            policies.reset()
            act = partial(policies.act, explore=explore)
            one = play(act, env, seed=number, max_steps=max_steps)
            if not one.ended:
                raise TeamError(
                    f"The episode with seed {number} did not end within {max_steps:,} steps."
                )
            played.returns.append(one.team_return)
            played.lengths.append(one.length)
            for name, value in one.metrics.items():
                played.metrics[name].append(value)
        return played
    finally:
        env.close()


def _check_team(env: VectorTeamEnv, policies: TeamPolicies) -> None:
    unlike = differences(policies.layout.team, env.team)
    if unlike:
        raise TeamError(
            "The environment has another team than the checkpoint's policies: "
            f"{'; '.join(unlike)}. Give the environment it was trained on."
        )
