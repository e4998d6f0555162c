"""Shows what a training has reached: against random actions, and as a video."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.policies import TeamPolicies, load_policies
from rllib_hetero.reporting.names import env_id
from rllib_hetero.reporting.run import RunResult
from rllib_hetero.reporting.video import (
    play_episode,
    random_actions,
    record_episode,
    video_suffix,
)
from rllib_hetero.runners.env_creator import env_creator
from rllib_hetero.runners.vector_env import VectorTeamEnv


def refuse_batched(config: Any) -> None:
    """Raises where `show` could not play an episode.

    Raises:
        SystemExit: If the environment is batched by nature.
    """
    make = env_creator(config.env)
    batched = isinstance(make, type) and issubclass(make, VectorTeamEnv)
    if not batched:
        env = make(dict(config.env_config))
        batched = isinstance(env, VectorTeamEnv)
        env.close()
    if batched:
        raise SystemExit(
            f"--demo is not for {env_id(config.env)!r}: it cannot play and film a single "
            "episode. Leave --demo out; --env-steps makes a training short."
        )


def show(config: Any, result: RunResult, *, episodes: int) -> bool:
    """Films the trained policies and compares them with random actions.

    Returns:
        Whether their mean return over the episodes is the higher one.
    """
    policies = load_policies(result.checkpoint)
    make = env_creator(config.env)
    env = make(dict(config.env_config))
    seeds = range(1_000_000, 1_000_000 + episodes)  # the same starts for both
    trained = np.array([_play(policies, env, s) for s in seeds])
    act = random_actions(env, seed=0)
    random = np.array([play_episode(act, env, seed=s) for s in seeds])
    env.close()
    print(
        f"mean team return over {episodes} episodes (± standard deviation):\n"
        f"  trained, greedy  {trained.mean():10.2f} ± {trained.std():.2f}\n"
        f"  random actions   {random.mean():10.2f} ± {random.std():.2f}"
    )
    try:
        env = make({**config.env_config, "render_mode": "rgb_array"})
        video = result.folder / f"episode{video_suffix()}"
        record_episode(policies, env, video, seed=seeds[0])
        env.close()
        print(f"  video      {video}")
    except (MissingExtraError, TeamError) as error:
        print(f"  no video: {error}")
    print(f"  curve      {result.curve}\n  checkpoint {result.checkpoint}")
    return bool(trained.mean() > random.mean())


def _play(policies: TeamPolicies, env: MultiAgentEnv, seed: int) -> float:
    policies.reset()
    return play_episode(policies.act, env, seed=seed)
