"""Shows what a training has reached: against random actions, and as a video."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.policies import TeamPolicies, load_policies
from rllib_hetero.reporting.playing import make_one
from rllib_hetero.reporting.run import RunResult
from rllib_hetero.reporting.video import (
    play_episode,
    random_actions,
    record_episode,
    video_suffix,
)


def show(config: Any, result: RunResult, *, episodes: int) -> bool:
    """Films the trained policies and compares them with random actions.

    Returns:
        Whether their mean return over the episodes is the higher one.
    """
    policies = load_policies(result.checkpoint)
    env = make_one(config.env, config.env_config)
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
        env = make_one(config.env, {**config.env_config, "render_mode": "rgb_array"})
        video = result.folder / f"episode{video_suffix()}"
        record_episode(policies, env, video, seed=seeds[0])
        env.close()
        print(f"  video      {video}")
    except (MissingExtraError, TeamError) as error:
        print(f"  no video: {error}")
    print(f"  curve      {result.curve}\n  checkpoint {result.checkpoint}")
    return bool(trained.mean() > random.mean())


def _play(policies: TeamPolicies, env: Any, seed: int) -> float:
    policies.reset()
    return play_episode(policies.act, env, seed=seed)
