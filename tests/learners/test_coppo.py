"""CoPPO against a slow one: every agent's ratio weighed with all others' as they are now."""

import itertools

import numpy as np
import pytest
import torch
from toys import SlowTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import CoPPOConfig
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION

EQUAL = {"agents": {a: (3, "box") for a in "abc"}}
PAIRS = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box"), "d": (2, "discrete")}}
# Steps large enough that, without either clip, the result would be another.
LARGE = {"lr": 5e-3, "num_epochs": 4, "clip_param": 0.1}


class SlowCoPPO(SlowTeam):
    """The restated objective in loops over modules, agents and the other agents."""

    def __init__(self, learner, frozen=()):
        super().__init__(learner)
        self.frozen = set(frozen)
        outer = self.c.outer_clip_param
        self.outer = self.c.clip_param / 2 if outer is None else outer
        self.bound = {"outer": 0, "inner": 0}

    def update(self, fragments):
        self.iteration += 1
        rows = self.rows(fragments)
        advantages, targets, old_values = self.estimate(rows)
        for m in self.groups:
            self._old(m, rows)
        for b in self._batches(len(rows), 0, self.c.num_epochs):
            self._all_at_once([rows[i] for i in b], b, advantages[b])
        self._fit_critic(rows, targets, old_values)

    def _all_at_once(self, rows, b, advantages):
        c = self.c
        ratios, alive, inputs = {}, {}, {}
        for m, agents in self.groups.items():
            for a in agents:
                obs = self.actor_input(a, [r.obs[a] for r in rows])
                act = torch.tensor(np.array([r.act[a] for r in rows]))
                alive[a] = torch.tensor([r.alive[a] for r in rows])
                ratios[a] = torch.exp(self.actors[m].log_prob(obs, act) - self._old_at[m][1][a][b])
                inputs[a] = obs
        losses = {}
        for m, agents in self.groups.items():
            total = sum(alive[a].sum() for a in agents)
            if m in self.frozen or not total:
                continue
            losses[m] = 0.0
            for a in agents:
                others = torch.ones(len(rows))
                for x in ratios:
                    if x != a:
                        others = others * torch.where(alive[x] > 0, ratios[x].detach(), 1.0)
                g = torch.clamp(others, 1 - self.outer, 1 + self.outer)
                l = ratios[a] * g  # noqa: E741
                clipped = torch.clamp(l, 1 - c.clip_param, 1 + c.clip_param)
                self.bound["outer"] += int((g != others).sum())
                self.bound["inner"] += int((clipped != l).sum())
                objective = torch.minimum(l * advantages, clipped * advantages)
                objective = objective + c.entropy_coeff * self.actors[m].entropy(inputs[a])
                losses[m] = losses[m] - (objective * alive[a]).sum() / total
        for m, loss in losses.items():
            self._step(m, self.actors[m], loss)


def make(env=None, *, sharing="auto", to_train=None, **training):
    config = small_config(CoPPOConfig, env_config=env, **(LARGE | training))
    config.multi_agent(parameter_sharing=sharing)
    if to_train is not None:
        config.multi_agent(policies_to_train=to_train)
    config.validate()
    return make_learner(config), config


def run(env=None, *, frozen=(), updates=2, **kwargs):
    learner, config = make(env, **kwargs)
    runner = make_runner(config)
    slow, before = SlowCoPPO(learner, frozen), SlowCoPPO(learner)
    for _ in range(updates):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments)
    moved = before.differences(learner)
    for m in {*slow.actors, "critic"} - set(frozen):
        assert max(x for (module, _), x in moved.items() if module == m) > 1e-2
    assert slow.bound["outer"] > 20 and slow.bound["inner"] > 20, slow.bound
    slow.assert_same(learner)
    return slow, learner, fragments[0]


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("env", [{}, {"dies": {"b": 2}, "state": True}])
def test_separate_modules(env, minibatch_size):
    slow, _, _ = run(env, minibatch_size=minibatch_size)
    assert set(slow.actors) == {"a", "b", "c"}


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("env", [EQUAL, {**EQUAL, "dies": {"a": 2, "b": 3}}])
def test_one_shared_module_weighs_each_agent_with_the_others_not_itself(env, minibatch_size):
    slow, _, _ = run(env, minibatch_size=minibatch_size)
    assert set(slow.actors) == {"shared"}


def test_two_modules_of_two_agents():
    slow, _, _ = run(PAIRS, sharing={"x": ["a", "c"], "y": ["b", "d"]}, minibatch_size=7)
    assert set(slow.actors) == {"x", "y"}


def test_a_frozen_module_has_ratio_one():
    _, learner, _ = run(to_train=["a", "c"], frozen=["b"])
    start, _ = make()
    assert torch.equal(learner.module["b"].head.weight, start.module["b"].head.weight)


def test_a_module_that_is_dead_in_a_minibatch_has_ratio_one():
    # "b" lives one of 20 steps: most minibatches hold none of its steps.
    run({"dies": {"b": 1}, "length": 20, "end": "terminate"}, minibatch_size=4)


@pytest.mark.parametrize("outer", [None, 0.02, 0.3])
def test_outer_clip(outer):
    slow, _, _ = run(outer_clip_param=outer, clip_param=0.1)
    assert slow.outer == (0.05 if outer is None else outer)
    other, config = make(outer_clip_param=0.08)
    runner = make_runner(config)
    for _ in range(2):
        update(other, sample(runner, other))
    assert max(slow.differences(other).values()) > 1e-3


@pytest.mark.parametrize("value", [0.0, -0.1, "wide"])
def test_an_outer_clip_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="outer_clip_param"):
        small_config(CoPPOConfig, outer_clip_param=value)


def test_ratios_are_those_of_the_step_at_hand():
    # At the first step nobody has moved; from then on all have.
    learner, config = make()
    seen, inner = [], learner.compute_loss_for_module

    def watched(*, module_id, batch, **kwargs):
        if module_id != "critic":
            seen.append((module_id, batch[CORRECTION].clone()))
        return inner(module_id=module_id, batch=batch, **kwargs)

    learner.compute_loss_for_module = watched
    update(learner, sample(make_runner(config), learner))
    assert [m for m, _ in seen] == ["a", "b", "c"] * 4
    steps = [[c for _, c in seen[3 * i : 3 * i + 3]] for i in range(4)]
    for correction in steps[0]:
        torch.testing.assert_close(correction, torch.ones_like(correction), rtol=0, atol=1e-6)
    for before, after in itertools.pairwise(steps):
        for x, y in zip(before, after, strict=True):
            assert (x - y).abs().max() > 1e-3


def test_one_agent_is_ppo():
    learner, config = make({"agents": {"only": (3, "box")}})
    slow = SlowTeam(learner)
    runner = make_runner(config)
    for _ in range(2):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=["only"])
    slow.assert_same(learner)
