"""Mirror-learning methods of one's own: a drift, a neighbourhood, and the check of the drift."""

import logging

import numpy as np
import pytest
import torch
from ray.rllib.core import Columns
from toys import (
    CountingTeam,
    MatrixTeam,
    SlowTeam,
    make_learner,
    make_runner,
    sample,
    small_config,
    update,
)

from rllib_hetero import HAA2CConfig, HAPPOConfig
from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION, POSITION, TOTAL
from rllib_hetero.learners.on_policy.sequential import SequentialLearner

ORDER = ["c", "a", "b"]


def make(
    cls, env_config=None, *, env=CountingTeam, learner_class=None, seed=7, num_epochs=4, **training
):
    config = small_config(cls, env, env_config, num_epochs=num_epochs, **training)
    if learner_class is not None:
        config.learners(learner_class=learner_class)
    config.debugging(seed=seed)
    config.validate()
    return make_learner(config), make_runner(config)


class HAPPOsDrift(SequentialLearner):
    """HARL, Section 3.4: E[ReLU([r - clip(r, 1 +- eps)] M A)]."""

    eps = 0.1

    def drift(self, change, config):
        clipped = change.ratio.clamp(1 - self.eps, 1 + self.eps)
        return torch.relu((change.ratio - clipped) * change.correction * change.advantages)


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("env", [{}, {"dies": {"a": 3}, "state": True}])
def test_happos_drift_is_happo(env, minibatch_size):
    training = {
        "lr": 5e-3,
        "num_epochs": 4,
        "update_order": ORDER,
        "minibatch_size": minibatch_size,
    }
    happo, runner = make(HAPPOConfig, env, clip_param=0.1, **training)
    own, _ = make(HAA2CConfig, env, learner_class=HAPPOsDrift, **training)
    plain, _ = make(HAA2CConfig, env, **training)
    for _ in range(2):
        fragments = sample(runner, happo)
        for learner in (happo, own, plain):
            update(learner, fragments)
    for m in ORDER:
        for name, p in happo.module[m].named_parameters():
            torch.testing.assert_close(
                dict(own.module[m].named_parameters())[name], p, rtol=0, atol=1e-5
            )
    # Without the drift it is another method.
    assert (plain.module["b"].head.weight - happo.module["b"].head.weight).abs().max() > 1e-3


def test_settings_of_the_objective_reach_the_drift():
    seen = []

    class Looking(SequentialLearner):
        def drift(self, change, config):
            seen.append((change.position, change.num_agents, config.lr, change.ratio.shape))
            return torch.zeros_like(change.ratio)

    learner, runner = make(
        HAA2CConfig, learner_class=Looking, update_order=ORDER, num_epochs=2, lr=0.003
    )
    update(learner, sample(runner, learner))
    assert {(n, lr, tuple(shape)) for _, n, lr, shape in seen} == {(3, 0.003, (24,))}
    # Two epochs and two looks for each agent.
    assert [p for p, *_ in seen] == [1] * 4 + [2] * 4 + [3] * 4


# ---- a neighbourhood of one's own ---------------------------------------------------------------


class PlainAscent(SequentialLearner):
    """One step along the gradient, of a length of 0.05."""

    def update_agent(self, module_id, rows, position):
        config = self.config.get_config_for_module(module_id)
        rows = rows | {POSITION: position, TOTAL: rows[ACTIVE].sum()}
        inputs = self.forward(module_id, rows)[Columns.ACTION_DIST_INPUTS]
        objective = self.objective(self.policy_change(module_id, rows, inputs), config, rows)
        params = self.get_parameters(self.module[module_id])
        gradient = torch.autograd.grad(objective, params)
        norm = torch.sqrt(sum((g**2).sum() for g in gradient))
        with torch.no_grad():
            for p, g in zip(params, gradient, strict=True):
                p += 0.05 * g / norm
        yield from ()


class SlowAscent(SlowTeam):
    def _actor_step(self, m, obs, act, old, adv, alive, correction):
        actor = self.actors[m]
        params = list(actor.parameters())
        ratio = torch.exp(actor.log_prob(obs, act) - old)
        objective = correction * adv * ratio + self.c.entropy_coeff * actor.entropy(obs)
        gradient = torch.autograd.grad((objective * alive).sum() / alive.sum(), params)
        norm = torch.sqrt(sum((g**2).sum() for g in gradient))
        for p, g in zip(params, gradient, strict=True):
            p.data += 0.05 * g / norm

    def _batches(self, count, key, epochs):
        yield from super()._batches(count, key, epochs if key == 1_000_000 else 1)


def test_a_neighbourhood_of_ones_own():
    learner, runner = make(
        HAA2CConfig, {"dies": {"a": 3}}, learner_class=PlainAscent, update_order=ORDER
    )
    slow = SlowAscent(learner)
    for _ in range(2):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=ORDER)
    assert slow.corrections["b"].std() > 0.02  # What was stepped is handed on.
    slow.assert_same(learner)


# ---- the check ----------------------------------------------------------------------------------


def warnings_of(caplog):
    return [
        r.getMessage()
        for r in caplog.records
        if r.name == "rllib_hetero.learners.on_policy.drift_check" and r.levelno == logging.WARNING
    ]


def train(caplog, drift, *, updates=7, seed=7, env=MatrixTeam, prepare=None, **training):
    """The warnings after some updates in a game in which actions matter much."""
    own = type("Own", (SequentialLearner,), {"drift": lambda self, change, config: drift(change)})
    settings = {"num_envs": 30, "steps": 10, "gamma": 0.0, "lr": 5e-3}
    env_config = {"payoff": [[3.0, 1.0, 0.0], [1.0, 0.0, -1.0]]} if env is MatrixTeam else {}
    learner, runner = make(
        HAA2CConfig,
        env_config,
        env=env,
        learner_class=own,
        seed=seed,
        **(settings | training),
    )
    if prepare is not None:
        prepare(learner)
    with caplog.at_level(logging.WARNING, logger="rllib_hetero"):
        caplog.clear()
        for _ in range(updates):
            update(learner, sample(runner, learner))
    assert learner._has_drift
    return warnings_of(caplog)


def kl(change):
    return change.dist.kl(change.old_inputs, change.inputs)


def happos(change):
    clipped = change.ratio.clamp(0.8, 1.2)
    return torch.relu((change.ratio - clipped) * change.correction * change.advantages)


@pytest.mark.parametrize("drift", [kl, happos, lambda c: 0.5 * kl(c) * c.position])
def test_drifts_give_no_warning(drift, caplog):
    assert train(caplog, drift) == []


def test_a_drift_of_unequal_agents_gives_no_warning(caplog):
    assert train(caplog, kl, env=CountingTeam) == []


def test_a_constant_is_no_drift(caplog):
    (said,) = train(caplog, lambda change: torch.ones_like(change.ratio))
    assert "is not 0 where the policy has not changed" in said and "Own" in said
    assert "Definition 10" in said


def test_a_slope_at_the_old_policy_is_no_drift(caplog):
    # It takes back all that is gained: without an entropy bonus nothing moves.
    drift = lambda change: (change.ratio - 1) * change.advantages  # noqa: E731
    (said,) = train(caplog, drift, entropy_coeff=0.0)
    assert "has a gradient where the policy has not changed" in said


def test_a_gain_is_no_drift(caplog):
    (said,) = train(caplog, lambda change: -kl(change))
    assert "is negative" in said


def test_each_kind_is_said_once(caplog):
    # All three at once, in each of seven updates of two agents.
    def drift(change):
        return 0.5 + 0.1 * (change.ratio - 1) * change.advantages - 3 * kl(change) - 1

    said = train(caplog, drift)
    assert len(said) == 3 == len(set(said))


def test_it_is_looked_at_in_the_first_updates_only(caplog):
    looks = []

    def drift(change):
        looks.append(1)
        return torch.zeros_like(change.ratio)

    train(caplog, drift, updates=5, num_epochs=1)
    five = len(looks)
    looks.clear()
    train(caplog, drift, updates=7, num_epochs=1)
    assert five == 5 * 2 * 3  # 5 updates of 2 agents: an epoch and two looks
    assert len(looks) == five + 2 * 2


# Drifts whose samples are of either sign, but whose expectation over the old policy's actions is
# one: KL(old || new), and zero throughout.
SAMPLED = {
    "log ratio": lambda change: -torch.log(change.ratio),
    "ratio less one": lambda change: change.ratio - 1,
}


@pytest.mark.parametrize("drift", SAMPLED)
def test_a_sampled_drift_gives_no_warning_whatever_there_is_to_gain(drift, caplog):
    # The mean over actions is what Definition 10 is about. Times the advantage, which depends on
    # the action, the mean gradient of either drift is the policy gradient: nothing forbids that.
    said = {seed: train(caplog, SAMPLED[drift], seed=seed, updates=2, lr=1e-3) for seed in range(5)}
    assert not any(said.values()), said


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("drift", SAMPLED)
def test_a_sampled_drift_gives_no_warning_where_advantages_are_noise(drift, seed, caplog):
    rewards = {"env": CountingTeam, "num_envs": 20, "entropy_coeff": 0.0, "lr": 1e-4}
    assert train(caplog, SAMPLED[drift], seed=seed, updates=5, **rewards) == []


def test_a_sampled_drift_gives_no_warning_on_three_samples(caplog):
    # They say little of a mean, and nothing if all three are of the same action.
    few = {"num_envs": 1, "steps": 3, "updates": 1}
    said = {seed: train(caplog, SAMPLED["log ratio"], seed=seed, **few) for seed in range(5)}
    assert not any(said.values()), said


def test_a_sampled_drift_gives_no_warning_of_a_policy_that_is_sure_of_itself(caplog):
    # All samples are of the action that has almost all probability: the mean of their gradients
    # is off by the rest of it, and their deviation is zero.
    def put_head(learner):
        for m in ("p0", "p1"):
            head = learner.module[m].head
            with torch.no_grad():
                head.weight.zero_()
                head.bias.copy_(torch.arange(len(head.bias)) * 7.0)

    before = {"updates": 1, "prepare": put_head, "standardize_advantages": False}
    assert train(caplog, SAMPLED["log ratio"], **before) == []


def test_the_check_costs_the_run_nothing():
    # What is learned does not depend on the look.
    ends = []
    for looks in (True, False):
        learner, runner = make(HAA2CConfig, learner_class=HAPPOsDrift, update_order=ORDER)
        if not looks:
            learner._check_drift = lambda *args: None
        for _ in range(2):
            update(learner, sample(runner, learner))
        ends.append({m: learner.module[m].head.weight.detach().numpy() for m in ORDER})
    assert all(np.array_equal(ends[0][m], ends[1][m]) for m in ORDER)


def test_without_a_drift_nothing_is_looked_at(caplog):
    learner, runner = make(HAA2CConfig)
    assert not learner._has_drift
    seen, inner = [], learner.update_agent

    def watched(module_id, rows, position):
        seen.append(rows[CORRECTION])
        return inner(module_id, rows, position)

    learner.update_agent = watched
    learner._check_drift = None  # It would not be called.
    update(learner, sample(runner, learner))
    assert len(seen) == 3
