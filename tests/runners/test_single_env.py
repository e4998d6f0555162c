"""A batch of one, played agent by agent, is what the batch is."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from ray.rllib.env.env_context import EnvContext

from rllib_hetero.envs import make_mpe
from rllib_hetero.errors import TeamError
from rllib_hetero.runners.single_env import SingleTeamEnv, make_single_env
from rllib_hetero.runners.vector_env import Outcome, SyncVectorTeamEnv, VectorTeamEnv
from rllib_hetero.team import Team


class Fading(VectorTeamEnv):
    """The choice made last is forbidden to b, which dies in step 2; a state; cut after 4 steps."""

    def __init__(self, config):
        n = self.num_envs = config.get("num_envs", 1)
        self.team = Team(
            agents=("a", "b"),
            observation_spaces={x: Box(-9.0, 9.0, (2,), np.float32) for x in "ab"},
            action_spaces={"a": Box(-1.0, 1.0, (1,), np.float32), "b": Discrete(3)},
            state_space=Box(-9.0, 9.0, (1,), np.float32),
            reward_scheme="shared",
            masked=frozenset("b"),
        )
        self.observations = {x: np.zeros((n, 2), np.float32) for x in "ab"}
        self.state = np.zeros((n, 1), np.float32)
        self.active = np.ones((n, 2), bool)
        self.infos = [{} for _ in range(n)]
        self.masks = {"b": np.ones((n, 3), bool)}
        self._step = np.zeros(n, int)

    def reset(self, envs, seeds):
        for e, seed in zip(envs, seeds, strict=True):
            start = np.random.default_rng(seed).uniform(-1, 1, (2, 2))
            for x, row in zip("ab", start, strict=True):
                self.observations[x][e] = row
            self.state[e] = start.sum()
        self._step[list(envs)] = 0
        self.active[list(envs)] = True
        self.masks["b"][list(envs)] = True

    def step(self, actions):
        self._step += 1
        self.observations["a"][:, :1] += actions["a"]
        self.state[:, 0] += actions["a"][:, 0]
        self.masks["b"][:] = np.arange(3) != actions["b"][:, None]
        dead = self._step >= 2
        self.active[:, 1] = ~dead
        self.observations["b"][dead], self.masks["b"][dead] = 0.0, True
        rewards = np.where(self.active, self.state, 0.0).astype(np.float32)
        no = np.zeros(self.num_envs, bool)
        return Outcome(rewards, no, self._step == 4, no.copy())

    def episode_metrics(self, envs):
        return {"steps": self._step[list(envs)].astype(float)}


def equal(batch, singles):
    np.testing.assert_array_equal(batch.active, singles.active)
    for name in ("observations", "masks"):
        ours, theirs = getattr(singles, name), getattr(batch, name)
        assert ours.keys() == theirs.keys()
        for agent, x in ours.items():
            np.testing.assert_array_equal(x, theirs[agent])
    if batch.state is not None:
        np.testing.assert_array_equal(batch.state, singles.state)


@pytest.mark.parametrize(
    "make", [Fading, lambda config: make_mpe({"scenario": "simple_reference", **config})]
)
def test_a_batch_taken_apart_and_put_together_again(make):
    batch = make({"num_envs": 2})
    singles = SyncVectorTeamEnv(lambda _: make_single_env(make, EnvContext({}, worker_index=0)), 2)
    assert (batch.team.masked, batch.team.agents) == (singles.team.masked, singles.team.agents)
    assert batch.team.observation_spaces == singles.team.observation_spaces
    assert batch.team.reward_scheme == singles.team.reward_scheme
    for env in (batch, singles):
        env.reset([0, 1], [3, 4])
    rng = np.random.default_rng(0)
    for _ in range(4):
        equal(batch, singles)
        actions = {
            a: rng.uniform(0, 1, (2, *s.shape)).astype(np.float32)
            if isinstance(s, Box)
            else rng.integers(s.n, size=2)
            for a, s in batch.team.action_spaces.items()
        }
        for ours, theirs in zip(singles.step(actions), batch.step(actions), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    equal(batch, singles)
    assert {k: x.tolist() for k, x in singles.episode_metrics([0, 1]).items()} == {
        k: x.tolist() for k, x in batch.episode_metrics([0, 1]).items()
    }


def test_what_it_is_not_for():
    with pytest.raises(TeamError, match=r'batch of 2.*"num_envs": 1'):
        SingleTeamEnv(Fading({"num_envs": 2}))
