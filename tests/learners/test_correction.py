"""The correction that HAPPO hands from agent to agent, and the order in which it does."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from toys import SlowTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAPPOConfig
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION

AGENTS = ("a", "b", "c")


def make(env_config=None, *, policies_to_train=None, sharing=None, **training):
    config = small_config(HAPPOConfig, env_config=env_config, **training)
    if policies_to_train is not None:
        config.multi_agent(policies_to_train=policies_to_train)
    if sharing is not None:
        config.multi_agent(parameter_sharing=sharing)
        config.validate()
    learner = make_learner(config)
    return learner, make_runner(config)


def watch(learner):
    """Lists (module id, correction) of every actor step that the learner takes from now on."""
    seen = []
    compute = learner.compute_loss_for_module

    def watched(*, module_id, batch, **kwargs):
        if module_id != "critic":
            seen.append((module_id, batch[CORRECTION].clone()))
        return compute(module_id=module_id, batch=batch, **kwargs)

    learner.compute_loss_for_module = watched
    return seen


def forward(weights, x):
    """An actor's output by hand: LayerNorm, (Linear, ReLU, LayerNorm) x 2, Linear; float64."""
    w = {k: torch.as_tensor(np.asarray(v)).double() for k, v in weights.items()}

    def norm(x, i):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
        return scaled * w[f"body.{i}.weight"] + w[f"body.{i}.bias"]

    x = norm(x.double(), 0)
    for linear, after in ((1, 3), (4, 6)):
        x = norm(torch.relu(x @ w[f"body.{linear}.weight"].T + w[f"body.{linear}.bias"]), after)
    return x @ w["head.weight"].T + w["head.bias"], w.get("std_logit")


def log_prob(space, weights, obs, actions):
    """log pi(a|o) by hand, of any space."""
    out, std_logit = forward(weights, obs)
    if isinstance(space, Box):
        std = 0.5 / (1.0 + torch.exp(-std_logit))
        z = (actions.double() - out) / std
        return (-0.5 * z**2 - torch.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)
    sizes = [space.n] if isinstance(space, Discrete) else space.nvec.tolist()
    columns = actions.reshape(len(actions), -1)
    total = 0.0
    for k, logits in enumerate(torch.split(out, sizes, -1)):
        p = torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True)
        total = total + torch.log(p[torch.arange(len(p)), columns[:, k]])
    return total


def agent_rows(fragment, agent):
    """(B, ...) columns of an agent with its own module, by environment, then time."""
    flat = [x[agent][:, :, 0].swapaxes(0, 1) for x in
            (fragment.observations, fragment.actions, fragment.active)]  # fmt: skip
    return [torch.from_numpy(x.reshape(-1, *x.shape[2:]).copy()) for x in flat]


def states(learner):
    return {a: {k: np.array(v) for k, v in learner.module[a].get_state().items()} for a in AGENTS}


def test_nobody_changed_so_the_correction_is_exactly_one():
    learner, runner = make(lr=0.0, critic_lr=1e-3, minibatch_size=7)
    for _ in range(2):
        fragments = sample(runner, learner)
        seen = watch(learner)
        update(learner, fragments)
        assert {m for m, _ in seen} == set(AGENTS)
        for m, correction in seen:
            assert torch.equal(correction, torch.ones_like(correction)), m


def test_after_a_frozen_agent_the_correction_is_exactly_one():
    # Its log-probabilities are evaluated all the same; nothing of its weights has changed.
    learner, runner = make(policies_to_train=["b", "c"], update_order=["a", "b", "c"])
    before = states(learner)
    seen = watch(learner)
    update(learner, sample(runner, learner))
    first = dict(reversed(seen))
    assert list(first) == ["c", "b"]  # "a" takes no step
    assert torch.equal(first["b"], torch.ones_like(first["b"]))
    assert not torch.equal(first["c"], torch.ones_like(first["c"]))
    after = states(learner)
    assert all(np.array_equal(x, after["a"][k]) for k, x in before["a"].items())


@pytest.mark.parametrize("order", list(itertools.permutations(AGENTS))[::2])
def test_correction_is_the_product_of_the_ratios_of_those_before(order):
    learner, runner = make(lr=0.02, update_order=list(order))
    (fragment,) = sample(runner, learner)
    old = states(learner)
    seen = watch(learner)
    update(learner, [fragment])
    new = states(learner)
    assert [m for m, _ in seen] == [a for a in order for _ in range(3)]  # 3 epochs each

    expected = torch.ones(fragment.env_steps(), dtype=torch.float64)
    for agent in order:
        given = [c for m, c in seen if m == agent]
        for correction in given:  # The same in every epoch.
            torch.testing.assert_close(correction.double(), expected, rtol=1e-4, atol=1e-5)
        obs, actions, _ = agent_rows(fragment, agent)
        space = learner.config.layout.team.action_spaces[agent]
        ratio = torch.exp(
            log_prob(space, new[agent], obs, actions) - log_prob(space, old[agent], obs, actions)
        )
        assert (ratio - 1).abs().max() > 0.05  # The test would see a ratio left out.
        expected = expected * ratio


def test_steps_of_the_dead_have_ratio_one():
    # "a" lives for 2 of 5 steps; what it would do afterwards must not enter anybody's objective.
    learner, runner = make({"dies": {"a": 2}}, lr=0.02, update_order=["a", "b", "c"])
    (fragment,) = sample(runner, learner)
    old = states(learner)["a"]
    seen = watch(learner)
    update(learner, [fragment])
    new = states(learner)["a"]
    given = dict(reversed(seen))["b"]

    obs, actions, alive = agent_rows(fragment, "a")
    assert 0 < alive.sum() < len(alive)
    space = learner.config.layout.team.action_spaces["a"]
    ratio = torch.exp(log_prob(space, new, obs, actions) - log_prob(space, old, obs, actions))
    assert (ratio[~alive] - 1).abs().max() > 0.05
    assert torch.equal(given[~alive], torch.ones_like(given[~alive]))
    torch.testing.assert_close(given[alive].double(), ratio[alive], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("env", [{}, {"dies": {"b": 3}}, {"state": True, "scheme": "shared"}])
def test_three_unequal_agents_are_algorithm_4(env, minibatch_size):
    order = ["c", "b", "a"]
    learner, runner = make(env, update_order=order, minibatch_size=minibatch_size)
    slow = SlowTeam(learner)
    for _ in range(2):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=order)
    assert slow.corrections["a"].std() > 1e-3
    slow.assert_same(learner)


def test_agents_that_share_a_network_are_updated_one_after_another_on_it():
    env = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box")}}
    learner, runner = make(env, sharing={"twins": ["a", "c"]}, update_order=["c", "b", "a"])
    slow = SlowTeam(learner)
    seen = watch(learner)
    for _ in range(2):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=["c", "b", "a"])
    assert [m for m, _ in seen[:9:3]] == ["twins", "b", "twins"]
    slow.assert_same(learner)


# ---- the order --------------------------------------------------------------------------------


def orders(seed, iterations, update_order="random"):
    """The orders of the iterations after a number of updates, without doing those."""
    config = small_config(HAPPOConfig, update_order=update_order).copy(copy_frozen=False)
    config.update_order_seed = seed
    learner = make_learner(config, stir=False)
    out = []
    for i in iterations:
        learner._weights_seq_no = i
        out.append(tuple(learner.update_order({})))
    return out


def test_order_is_a_permutation_that_differs_over_iterations_and_covers_all():
    drawn = orders(7, range(1, 241))
    everything = set(itertools.permutations(AGENTS))
    assert set(drawn) == everything
    # Uniform: 40 of each are expected; 6 standard deviations of a binomial are 35.
    counts = [drawn.count(p) for p in everything]
    assert min(counts) > 5 and max(counts) < 75
    # No cycle: the second half does not repeat the first.
    assert drawn[:120] != drawn[120:]


def test_order_follows_from_seed_and_iteration_alone():
    assert orders(7, range(1, 21)) == orders(7, range(1, 21))
    assert orders(7, [15, 3]) == [orders(7, [15])[0], orders(7, [3])[0]]
    assert orders(7, range(1, 21)) != orders(8, range(1, 21))


def test_updates_happen_in_the_drawn_order():
    learner, runner = make()
    done = []
    for _ in range(6):
        fragments = sample(runner, learner)
        seen = watch(learner)
        update(learner, fragments)
        learner.compute_loss_for_module = type(learner).compute_loss_for_module.__get__(learner)
        done.append(tuple(m for m, _ in seen[::3]))
    assert done == orders(learner.config.seed, range(1, 7))
    assert len(set(done)) > 1


def test_order_may_be_fixed_or_given():
    assert orders(7, range(1, 4), "cyclic") == [AGENTS] * 3
    assert orders(7, range(1, 4), ["c", "a", "b"]) == [("c", "a", "b")] * 3


@pytest.mark.parametrize("order", ["backwards", ["a", "b"], ["a", "b", "b"], ["a", "b", "c", "a"]])
def test_an_order_that_is_none_is_refused(order):
    with pytest.raises(ValueError, match="update_order"):
        small_config(HAPPOConfig, update_order=order)
