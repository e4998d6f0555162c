"""Minibatches drawn by priority: the learner against one that keeps a plain list of them."""

import numpy as np
import pytest
import torch
from off_policy_toys import SlowDDPG, SlowReplay, SlowTD3, off_policy_config, update
from toys import make_learner, make_runner, sample

from rllib_hetero import HADDPGConfig, HATD3Config

ALPHA, BETA = 0.6, 0.4
METHODS = {"haddpg": (HADDPGConfig, SlowDDPG), "hatd3": (HATD3Config, SlowTD3)}


class PrioritizedReplay(SlowReplay):
    """Schaul et al. 2016, Algorithm 1, with a list for each environment."""

    def __init__(self, config):
        super().__init__(config)
        self.priorities = [[] for _ in self.columns]  # p^alpha
        self.largest = 1.0

    def add(self, fragments):
        super().add(fragments)
        for rows, priorities in zip(self.columns, self.priorities, strict=True):
            priorities += [self.largest] * (len(rows) - len(priorities))

    def indices(self, rng, total):
        size, all_of_them = self.c.train_batch_size_per_learner, np.concatenate(self.priorities)
        ends = all_of_them.cumsum()
        sums = (np.arange(size) + rng.random(size)) * ends[-1] / size
        self.drawn = ends.searchsorted(sums, side="right")
        self.weights = (total * all_of_them[self.drawn] / ends[-1]) ** -BETA
        self.weights /= self.weights.max()
        return self.drawn

    def learn(self, errors):
        places = [(own, i) for own in self.priorities for i in range(len(own))]
        for index, error in zip(self.drawn, errors, strict=True):
            priorities, i = places[index]
            priorities[i] = (abs(error) + 1e-6) ** ALPHA
            self.largest = max(self.largest, priorities[i])


def prioritized(cls):
    class Slow(cls):
        def __init__(self, learner):
            super().__init__(learner)
            self.replay = PrioritizedReplay(learner.config)

        def fit_critics(self, state, actions, target):
            x = torch.cat([state, actions], -1)
            errors = [q(x)[:, 0] - target for q in self.critics]
            weights = torch.tensor(self.replay.weights, dtype=torch.float32)
            self.replay.learn(sum(e.detach().abs() for e in errors).numpy() / len(errors))
            self.step("critic", sum((weights * e**2).mean() for e in errors))

    return Slow


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_paper(method):
    cls, slow_cls = METHODS[method]
    config = off_policy_config(
        cls,
        env_config={"agents": {"only": (3, "box")}, "length": 5, "end": "alternate"},
        replay_buffer_config={"capacity": 300, "alpha": ALPHA, "beta": BETA},
        n_step=2,
    )
    learner, runner = make_learner(config), make_runner(config)
    slow = prioritized(slow_cls)(learner)
    for _ in range(4):
        fragments = sample(runner, learner)
        update(learner, fragments, 5)
        slow.update(fragments, 5)
    slow.assert_same(learner)
    # Errors are differences of float32 numbers, computed in another order.
    priorities = np.concatenate(slow.replay.priorities)
    assert learner.replay.priorities.tree.total == pytest.approx(priorities.sum(), rel=1e-3)
    assert priorities.std() > 0.1 and slow.replay.weights.std() > 0.01


def test_a_restored_learner_goes_on_as_if_never_stopped(tmp_path):
    """Rollouts of two whole episodes each."""
    config = off_policy_config(
        HATD3Config,
        env_config={"agents": {"a": (3, "box"), "b": (4, "discrete")}, "length": 4},
        replay_buffer_config={"capacity": 300, "alpha": ALPHA, "beta": BETA},
    )
    whole, resumed, runner = make_learner(config), make_learner(config), make_runner(config)
    update(whole, sample(runner, whole), 5)
    whole.replay.save(tmp_path)
    resumed.set_state(whole.get_state())
    resumed.replay.restore(tmp_path)
    fragments = sample(runner, whole)
    for learner in (whole, resumed):
        update(learner, fragments, 5)
    expected, got = (x.get_state()["rl_module"] for x in (whole, resumed))
    for m, weights in expected.items():
        for name, x in weights.items():
            assert np.array_equal(x, got[m][name]), (m, name)
    totals = [x.replay.priorities.tree.total for x in (whole, resumed)]
    assert totals[0] == totals[1] != len(whole.replay)
