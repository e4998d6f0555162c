"""The trained policies that come with the sources still load and still run."""

from pathlib import Path

import pytest

from rllib_hetero import load_policies
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero.reporting.video import play_episode

TRAINED = Path(__file__).parents[1] / "examples" / "trained"


def test_six_agents_run_one_cheetah():
    pytest.importorskip("gymnasium_robotics")
    policies = load_policies(TRAINED / "halfcheetah_6x1")
    settings = {"scenario": "HalfCheetah", "agent_conf": "6x1", "agent_obsk": None}
    env = ENVIRONMENTS["mamujoco"]({**settings, "max_episode_steps": 80})
    # 278 where it was written. Policies that have learned nothing stay below 0.
    assert play_episode(policies.act, env, seed=0, max_steps=80) > 100
    env.close()
