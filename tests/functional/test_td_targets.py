"""Targets of action values, against hand-computed numbers and slow walks over episodes."""

import math

import numpy as np
import pytest
import torch

from rllib_hetero.functional import (
    best_value,
    smallest,
    soft_value,
    td_lambda_targets,
    td_loss,
    td_target,
)

NAN = math.nan
SEEDS = range(5)


# One target from rewards, discount and next value.


def test_target_hand_computed():
    # One step; three steps at gamma = 1/2; termination, whose next value is not read.
    rewards, discounts = torch.tensor([1.0, 1.75, 2.0]), torch.tensor([0.5, 0.125, 0.0])
    actual = td_target(rewards, discounts, torch.tensor([4.0, 8.0, NAN]))
    assert actual.tolist() == [3.0, 2.75, 2.0]


def test_target_has_no_gradient_and_wants_equal_shapes():
    values = torch.ones(3, requires_grad=True)
    assert not td_target(torch.ones(3), torch.ones(3), values).requires_grad
    with pytest.raises(ValueError, match="Shapes"):
        td_target(torch.ones(3), torch.ones(3), torch.ones(3, 1))


# Values of next actions.


def test_smallest_and_where_its_gradient_goes():
    values = torch.tensor([[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]], requires_grad=True)
    least = smallest(values)
    assert least.tolist() == [1.0, 4.0, 2.0]
    least.sum().backward()
    assert values.grad.tolist() == [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]
    assert smallest(values[:1]).tolist() == [1.0, 5.0, 2.0]


def test_soft_value_hand_computed():
    values, entropies = torch.tensor([1.0, -1.0]), torch.tensor([[2.0, 4.0], [0.0, -8.0]])
    alphas = torch.tensor([0.5, 0.25])
    assert soft_value(values, entropies, alphas).tolist() == [3.0, -3.0]
    assert soft_value(values, entropies, 0.5).tolist() == [4.0, -5.0]
    assert soft_value(values, entropies, torch.tensor(0.5)).tolist() == [4.0, -5.0]


@pytest.mark.parametrize("values", [torch.zeros(2, 1), torch.zeros(1), torch.zeros(2, 3)])
def test_soft_value_rejects_what_would_broadcast(values):
    with pytest.raises(ValueError, match="Entropies"):
        soft_value(values, torch.zeros(2, 3), 0.1)


def test_soft_value_wants_one_temperature_for_each_agent():
    with pytest.raises(ValueError, match="3, are needed"):
        soft_value(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2))


def test_best_value_hand_computed():
    values = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [NAN, 2.0, 3.0]])
    chosen_by = torch.tensor([[9.0, 0.0, 1.0], [9.0, 0.0, 1.0], [NAN, 5.0, 1.0]])
    mask = torch.tensor([[True, True, True], [False, True, True], [False, True, False]])
    assert best_value(values, chosen_by, mask).tolist() == [1.0, 3.0, 2.0]
    assert best_value(values[:2], chosen_by[:2]).tolist() == [1.0, 1.0]
    assert best_value(values[:2], values[:2]).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_best_value_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    values, chosen_by = rng.normal(size=(2, 7, 3, 4))
    mask = rng.random((7, 3, 4)) < 0.5
    mask[..., 0] |= ~mask.any(-1)
    actual = best_value(*(torch.from_numpy(x) for x in (values, chosen_by, mask)))
    for b, i in np.ndindex(7, 3):
        allowed = [a for a in range(4) if mask[b, i, a]]
        assert actual[b, i] == values[b, i, max(allowed, key=lambda a: chosen_by[b, i, a])]


# TD(lambda).


def slow_returns(rewards, next_values, terminated, length, gamma, lambda_):
    """The forward view: the weighted average of all n-step returns of the first `length` steps."""
    targets = []
    for t in range(length):
        ends = [u for u in range(t, length) if terminated[u] or u == length - 1]
        horizon = ends[0] - t + 1
        returns = []
        for n in range(1, horizon + 1):
            last = t + n - 1
            total = sum(gamma**k * rewards[t + k] for k in range(n))
            if not terminated[last]:
                total += gamma**n * next_values[last]
            returns.append(total)
        weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, horizon)]
        weights.append(lambda_ ** (horizon - 1))
        targets.append(sum(w * g for w, g in zip(weights, returns, strict=True)))
    return targets


def test_lambda_targets_hand_computed():
    # gamma = lambda = 1/2. Row 0 terminates, row 1 is cut after two steps, row 2 fills the array.
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, NAN], [1.0, 2.0, 4.0]])
    next_values = torch.tensor([[4.0, 8.0, NAN], [4.0, 8.0, NAN], [4.0, 8.0, 16.0]])
    discounts = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, NAN], [0.5, 0.5, 0.5]])
    filled = torch.tensor([[True] * 3, [True, True, False], [True] * 3])
    actual = td_lambda_targets(rewards, next_values, discounts, filled, lambda_=0.5)
    # From the back, y = r + V' / 4 + y' / 4; alone at the end, y = r + V' / 2.
    expected = [[3.25, 5.0, 4.0], [3.5, 6.0, 0.0], [3.75, 7.0, 12.0]]
    assert actual.tolist() == expected


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_lambda_targets_equal_the_forward_view_of_episodes_of_all_lengths(seed, lambda_):
    rng = np.random.default_rng(seed)
    size, steps, gamma = 12, 7, 0.9
    rewards, next_values = rng.normal(size=(2, size, steps))
    lengths = rng.integers(1, steps + 1, size=size)
    filled = np.arange(steps) < lengths[:, None]
    terminated = np.zeros((size, steps), bool)
    terminated[np.arange(size), lengths - 1] = rng.random(size) < 0.5
    discounts = np.where(terminated, 0.0, gamma)
    for array in (rewards, next_values, discounts):
        array[~filled] = NAN
    next_values[terminated] = NAN
    assert terminated.any() and (lengths < steps).any() and not terminated.all()
    actual = td_lambda_targets(
        *(torch.from_numpy(x) for x in (rewards, next_values, discounts, filled)), lambda_=lambda_
    )
    for b, length in enumerate(lengths):
        expected = slow_returns(rewards[b], next_values[b], terminated[b], length, gamma, lambda_)
        np.testing.assert_allclose(actual[b, :length], expected, rtol=1e-12)
        assert (actual[b, length:] == 0).all()


def test_a_truncated_episode_bootstraps_by_its_own_end_and_not_by_the_padding():
    # All rewards 0, value 1 everywhere, 100 in the padding: the target is gamma^steps.
    rewards, next_values = torch.zeros(1, 5), torch.tensor([[1.0, 1.0, 1.0, 100.0, 100.0]])
    filled = torch.tensor([[True, True, True, False, False]])
    actual = td_lambda_targets(rewards, next_values, torch.full((1, 5), 0.5), filled, lambda_=1.0)
    assert actual.tolist() == [[0.125, 0.25, 0.5, 0.0, 0.0]]


def test_several_agents_are_one_call_each():
    generator = torch.Generator().manual_seed(0)
    rewards, next_values = torch.randn(2, 4, 6, 3, generator=generator)
    discounts = torch.full((4, 6), 0.9)
    discounts[1, 3] = 0.0
    filled = torch.arange(6) < torch.tensor([[6], [4], [1], [5]])
    together = td_lambda_targets(rewards, next_values, discounts, filled, lambda_=0.8)
    for i in range(3):
        alone = td_lambda_targets(
            rewards[..., i], next_values[..., i], discounts, filled, lambda_=0.8
        )
        assert torch.equal(together[..., i], alone)


def test_episodes_may_end_earlier_for_some_agents():
    generator = torch.Generator().manual_seed(0)
    rewards, next_values = torch.randn(2, 4, 6, 3, generator=generator)
    discounts = 0.9 * (torch.rand(4, 6, 3, generator=generator) < 0.7)
    filled = torch.arange(6) < torch.tensor([[6], [4], [1], [5]])
    together = td_lambda_targets(rewards, next_values, discounts, filled, lambda_=0.8)
    for i in range(3):
        parts = (x[..., i] for x in (rewards, next_values, discounts))
        assert torch.equal(together[..., i], td_lambda_targets(*parts, filled, lambda_=0.8))


def test_lambda_targets_leave_inputs_alone_and_have_no_gradient():
    rewards, next_values = torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)
    discounts, filled = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    actual = td_lambda_targets(rewards, next_values, discounts, filled, lambda_=0.5)
    assert not actual.requires_grad
    assert all((x == 1).all() for x in (rewards, next_values, discounts, filled))


def test_lambda_targets_reject_wrong_shapes_and_types():
    x, filled = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="Shapes"):
        td_lambda_targets(x, x[:1], x, filled, lambda_=0.5)
    for discounts in (x[:, :2], torch.zeros(2, 3, 1)):
        with pytest.raises(ValueError, match="Discounts"):
            td_lambda_targets(x, x, discounts, filled, lambda_=0.5)
    with pytest.raises(ValueError, match="axes of `filled`"):
        td_lambda_targets(x[:1], x[:1], x, filled, lambda_=0.5)
    with pytest.raises(ValueError, match="bool"):
        td_lambda_targets(x, x, x, x, lambda_=0.5)


# The loss.


def test_loss_hand_computed():
    values = torch.tensor([0.0, 1.5, 3.0, -5.0], requires_grad=True)
    targets = torch.zeros(4)
    assert td_loss(values, targets).tolist() == [0.0, 2.25, 9.0, 25.0]
    robust = td_loss(values, targets, 2.0)
    assert robust.tolist() == [0.0, 2.25, 8.0, 16.0]
    robust.sum().backward()
    assert values.grad.tolist() == [0.0, 3.0, 4.0, -4.0]


def test_loss_rejects_bad_input():
    with pytest.raises(ValueError, match="Shapes"):
        td_loss(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="huber_delta"):
        td_loss(torch.zeros(3), torch.zeros(3), 0.0)
