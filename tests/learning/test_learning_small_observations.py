"""Teams that see one, two or three numbers learn what these say."""

import re
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from toys import make_learner, make_runner, sample, small_config, update, watch_notes

from rllib_hetero import HAPPOConfig, MAPPOConfig, Outcome, Team, VectorTeamEnv

SEEN = {
    "a bit": lambda rng, n: rng.integers(2, size=(n, 1)),
    "a bit twice": lambda rng, n: rng.integers(2, size=(n, 1)).repeat(2, axis=1),
    "two numbers": lambda rng, n: rng.random((n, 2)),
}
"""n observations (n, d)."""


class AboveTeam(VectorTeamEnv):
    """Two agents each say whether the mean of what they see is above 0.5: 2 is the best.

    Episodes are one step long. `env_config["seen"]` is a key of `SEEN`.
    """

    def __init__(self, env_config):
        n = self.num_envs = env_config.get("num_envs", 1)
        self.draw, self.rng = SEEN[env_config["seen"]], np.random.default_rng(1)
        agents, size = ("a", "b"), self.draw(self.rng, 1).shape[1]
        self.team = Team(
            agents,
            {a: Box(-np.inf, np.inf, (size,), np.float32) for a in agents},
            {a: Discrete(2) for a in agents},
            reward_scheme="shared",
        )
        self.observations = {a: np.zeros((n, size), np.float32) for a in agents}
        self.state, self.active = None, np.ones((n, 2), bool)
        self.infos = [{} for _ in range(n)]

    def reset(self, envs, seeds):
        for x in self.observations.values():
            x[envs] = self.draw(self.rng, len(envs))

    def step(self, actions):
        right = [(x.mean(1) > 0.5) == actions[a] for a, x in self.observations.items()]
        reward = np.repeat(np.sum(right, 0)[:, None], 2, axis=1).astype(np.float32)
        over, never = np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool)
        return Outcome(reward, terminated=over, truncated=never, failed=never.copy())


def train(env, env_config=None, *, cls=HAPPOConfig, updates=10, steps=5, **model):
    """The mean team reward in the batches of the last half, and the critic's explained variance.

    Batches are sampled, with exploration.
    """
    networks = {"hidden_sizes": [32, 32], "actor_head_gain": 0.01, "layer_norm": True}
    config = small_config(
        cls, env, env_config, num_envs=100, steps=steps, lr=5e-3, num_epochs=10,
        entropy_coeff=0.0, model=networks | model,
    )  # fmt: skip
    learner, runner = make_learner(config, stir=False), make_runner(config)
    notes, rewards = watch_notes(learner), []
    for _ in range(updates):
        fragments = sample(runner, learner)
        rewards += [f.rewards[..., 0].mean() for f in fragments]
        update(learner, fragments)
    return np.mean(rewards[updates // 2 :]), notes["critic", "vf_explained_var"][-1]


@pytest.mark.parametrize("seen", ["a bit", "a bit twice"])
def test_a_bit_is_copied(seen):
    assert train(AboveTeam, {"seen": seen})[0] > 1.9


def test_agents_that_share_a_network_copy_it_too():
    assert train(AboveTeam, {"seen": "a bit"}, cls=MAPPOConfig)[0] > 1.9


def test_the_mean_of_two_numbers_is_seen():
    # Some are so close to 0.5 that they are told from it last.
    assert train(AboveTeam, {"seen": "two numbers"})[0] > 1.8


@pytest.mark.parametrize("seen", ["a bit", "two numbers"])
def test_with_layer_norm_on_the_input_nothing_is_learned(seen):
    assert train(AboveTeam, {"seen": seen}, layer_norm="all")[0] < 1.1


def test_the_critic_of_the_documented_example_explains_the_returns():
    # Its state is three numbers, one of them twice.
    page = Path(__file__).parents[2] / "docs" / "own-environment.md"
    (code,) = re.findall(r"```python\n(.*?class Tug.*?)\n```", page.read_text(), re.DOTALL)
    code = code.split("```python\n")[-1]
    scope = {}
    exec(code, scope)
    assert train(scope["Tug"], updates=6, steps=25)[1] > 0.6
    assert train(scope["Tug"], updates=6, steps=25, layer_norm="all")[1] < 0.3
