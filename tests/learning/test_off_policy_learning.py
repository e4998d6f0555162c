"""Small games of which the best is known: what the off-policy learners make of them in seconds."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from off_policy_toys import off_policy_config, update
from toys import MatrixTeam, TargetTeam, make_learner, make_runner, sample

from rllib_hetero import (
    HAD3QNConfig,
    HADDPGConfig,
    HASACConfig,
    HATD3Config,
    MADDPGConfig,
    MATD3Config,
)


class MeetingTeam(TargetTeam):
    """The shared reward is -(a_1 + x + y - 1)^2 - (a_1 - x)^2 - (x - y)^2, with a_2 = (x, y).

    The best is 0, where all are 1/3; no agent knows what is good without the other.
    """

    def step(self, action_dict):
        (a,), (x, y) = action_dict["p0"], action_dict["p1"]
        _, rewards, *ends = super().step(action_dict)
        reward = -float((a + x + y - 1.0) ** 2 + (a - x) ** 2 + (x - y) ** 2)
        return self._observe(), dict.fromkeys(rewards, reward), *ends


class FarOffTeam(TargetTeam):
    """Each agent is to say what it sees, which comes as 300 + x, beside a number of thousands."""

    def __init__(self, config=None):
        super().__init__()
        self.observation_spaces = {a: Box(-np.inf, np.inf, (2,), np.float32) for a in self.agents}

    def reset(self, *, seed=None, options=None):
        rng = np.random.default_rng(seed)
        self.wanted, self.noise = rng.uniform(-1.0, 1.0, 2), 5000.0 * rng.normal(size=2)
        return super().reset()

    def step(self, action_dict):
        _, rewards, *ends = super().step(action_dict)
        off = [np.mean(action_dict[a] - x) for a, x in zip(self.agents, self.wanted, strict=True)]
        return self._observe(), dict.fromkeys(rewards, -float(np.sum(np.square(off)))), *ends

    def _observe(self):
        seen = np.stack([300.0 + self.wanted, self.noise], -1).astype(np.float32)
        return dict(zip(self.agents, seen, strict=True))


def train(cls, env, env_config=None, *, rounds, sizes=(32, 32), model=None, **settings):
    """A learner after so many rounds of 80 steps and 20 updates; the first steps are random."""
    training = {"lr": 3e-3, "critic_lr": 1e-2, "adam_epsilon": 1e-8, "gamma": 0.5, "tau": 0.1}
    training |= {"train_batch_size_per_learner": 64, "replay_buffer_config": {"capacity": 4_000}}
    config = off_policy_config(
        cls, env, env_config, num_envs=8, steps=10,
        model={"hidden_sizes": list(sizes)} | (model or {}), **training | settings,
    )  # fmt: skip
    learner, runner = make_learner(config, stir=False), make_runner(config)
    fragments = runner.sample(random_actions=True)
    for _ in range(rounds):
        update(learner, fragments, 20)
        fragments = sample(runner, learner)
    return learner, runner


def greedy_rewards(runner, learner):
    sample(runner, learner)
    (f,) = runner.sample(explore=False)
    return f.rewards[..., 0]


@pytest.mark.parametrize("cls", [HADDPGConfig, HATD3Config, MADDPGConfig, MATD3Config])
def test_continuous_actions_meet_at_their_optimum(cls):
    # Doing nothing pays -1, random play -3 on average.
    learner, runner = train(cls, MeetingTeam, rounds=15, exploration_noise=0.3)
    assert greedy_rewards(runner, learner).min() > -0.4


@pytest.mark.parametrize("norm", [True, False])
def test_inputs_of_any_scale_are_learned_from_in_their_own_units(norm):
    # Doing nothing pays -2/3 on average.
    learner, runner = train(
        HADDPGConfig, FarOffTeam, rounds=12, exploration_noise=0.3, model={"input_norm": norm}
    )  # fmt: skip
    assert (greedy_rewards(runner, learner).mean() > -0.1) == norm


@pytest.mark.parametrize("cls", [HADDPGConfig, MADDPGConfig])
def test_choices_drawn_by_gumbel_softmax_find_the_best_pair(cls):
    # The best pair is not made of what is best beside random play: 2.5 against 7/3 on average.
    payoff = [[5.0, 0.0, 1.0], [0.0, 3.0, 2.0], [1.0, 2.0, 2.0]]
    learner, runner = train(cls, MatrixTeam, {"payoff": payoff}, rounds=15)
    assert (greedy_rewards(runner, learner) == 5.0).all()


def test_values_fitted_in_turn_find_an_optimum_of_the_penalty_game():
    """10 for (0, 2) and (2, 0), -10 for (0, 0) and (2, 2), and a safe 2 for (1, 1)."""
    learner, runner = train(
        HAD3QNConfig, "matrix_game", {"game": "penalty", "penalty": -10}, rounds=20,
        epsilon=0.2, replay_buffer_config={"capacity": 500},
    )  # fmt: skip
    assert (greedy_rewards(runner, learner) == 10.0).all()


@pytest.mark.parametrize("fraction", [0.3, 0.8])
def test_entropy_reaches_its_target(fraction):
    """From a temperature too low for the one and too high for the other."""
    learner, _ = train(
        HASACConfig, MatrixTeam, {"payoff": [0.0, 0.4, 0.8, 1.2]}, rounds=40, sizes=(32,),
        initial_alpha=0.3, alpha_lr=0.02, target_entropy_fraction=fraction,
    )  # fmt: skip
    with torch.no_grad():
        logits = learner.policy_outputs("p0", torch.ones(1, 1))
    entropy = float(torch.distributions.Categorical(logits=logits).entropy())
    assert entropy == pytest.approx(fraction * math.log(4), abs=0.12)
    # It goes to the better choices.
    assert np.all(np.diff(logits[0].numpy()) > 0)
