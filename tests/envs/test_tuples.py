"""Gymnasium environments of several agents, on one whose agents see a clock."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Tuple

from rllib_hetero import TeamError, TupleTeamEnv, check_env
from rllib_hetero.team import Team


class Clocks(gym.Env):
    """Two unlike agents; `end` says how the fourth step ends, as (terminated, truncated)."""

    observation_space = Tuple([Box(-9, 9, (1,), np.float32), Box(-9, 9, (2,), np.float32)])
    action_space = Tuple([Discrete(3), Box(-1, 1, (1,), np.float32)])

    def __init__(self, end=(False, True)):
        self.end = end
        self.seen = [np.zeros(1, np.float32), np.zeros(2, np.float32)]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, actions):
        assert all(s.contains(u) for s, u in zip(self.action_space, actions, strict=True))
        self.t += 1
        ends = self.end if self.t == 4 else (False, False)
        return self._look(), [np.int64(actions[0]), actions[1][0]], *ends, {}

    def _look(self):
        for x in self.seen:
            x[:] = self.t  # Always the same arrays.
        return tuple(self.seen)


def test_agents_have_their_entries():
    env = TupleTeamEnv(Clocks(), agents=["left", "right"], reward_scheme="shared")
    team = Team.from_env(env)
    assert team.agents == ("left", "right") and team.reward_scheme == "shared"
    assert team.observation_spaces["right"].shape == (2,) and team.action_spaces["left"].n == 3
    first, _ = env.reset(seed=1)
    actions = {"right": np.array([0.5], np.float32), "left": 2}
    seen, rewards, terminateds, truncateds, _ = env.step(actions)
    assert first["right"].tolist() == [0.0, 0.0] and seen["right"].tolist() == [1.0, 1.0]
    assert rewards == {"left": 2.0, "right": 0.5}
    assert not any(terminateds.values()) and not any(truncateds.values())
    for _ in range(3):
        *_, terminateds, truncateds, _ = env.step(actions)
    assert not any(terminateds.values()) and all(truncateds.values())
    assert truncateds.keys() == {"left", "right", "__all__"}
    report = check_env(lambda config: TupleTeamEnv(Clocks((True, True))), steps=40)
    assert report.ok, report


def test_what_is_no_tuple_is_refused():
    with pytest.raises(TeamError, match="gymnasium Tuples"):
        TupleTeamEnv(gym.make("CartPole-v1"))
    with pytest.raises(TeamError, match="names 1 agents; the environment has 2"):
        TupleTeamEnv(Clocks(), agents=["left"])
