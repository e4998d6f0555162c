"""The team's reward, by hand."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rllib_hetero import Team


def team_of(scheme):
    agents = ("a", "b", "c")
    seen = {a: Box(-1.0, 1.0, (2,), np.float32) for a in agents}
    return Team(agents, seen, {a: Discrete(2) for a in agents}, reward_scheme=scheme)


@pytest.mark.parametrize("dead", [(), (0,), (1, 2), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("reward", [-2.0, 3.0])
def test_a_shared_reward_counts_once_whoever_is_dead(dead, reward):
    rewards = np.full((4, 3), reward, np.float32)
    rewards[:, list(dead)] = 0.0
    expected = np.full(4, 0.0 if len(dead) == 3 else reward)
    np.testing.assert_array_equal(team_of("shared").team_reward(rewards), expected)


def test_rewards_of_their_own_are_added_up():
    rewards = np.array([[1.0, -2.0, 4.0], [0.0, 0.5, 0.0]])
    np.testing.assert_array_equal(team_of("individual").team_reward(rewards), [3.0, 0.5])
