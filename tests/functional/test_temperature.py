"""Target entropies and the loss of temperatures."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rllib_hetero.functional import (
    Categorical,
    MultiCategorical,
    allowed_target_entropy,
    mask_logits,
    target_entropy,
    temperature_loss,
)
from rllib_hetero.functional.squashed import squashed_for


def box(low, high):
    return Box(np.float32(low), np.float32(high))


def test_targets_hand_computed():
    assert target_entropy(box([-1, -1, -1], [1, 1, 1]), 0.5) == -3.0
    assert target_entropy(Discrete(5), 0.98) == pytest.approx(0.98 * math.log(5))
    assert target_entropy(MultiDiscrete([2, 3]), 0.5) == pytest.approx(0.5 * math.log(6))
    assert target_entropy(Discrete(1), 0.98) == 0.0


def test_the_target_of_a_box_is_in_the_units_of_its_actions():
    # [0, 1] is half as wide as [-1, 1], [-4, 4] four times: a density of the same shape has
    # log 2 less of entropy, log 4 more.
    expected = -2.0 - math.log(2.0) + math.log(4.0)
    assert target_entropy(box([0, -4], [1, 4]), 1.0) == pytest.approx(expected)
    # Where the range is narrow, -1 nats are more than any policy within it has.
    narrow = target_entropy(box([0], [0.01]), 1.0)
    assert narrow == pytest.approx(math.log(0.01) - math.log(2.0) - 1.0, rel=1e-6)
    assert narrow < math.log(0.01) < -1.0


def test_the_target_moves_with_the_range_as_the_entropy_of_a_policy_does():
    unit, other = box([-1, -1], [1, 1]), box([0, -4], [0.01, 4])
    inputs, noise = torch.randn(20, 4), torch.randn(20, 2)
    (_, in_unit), (_, in_other) = (
        squashed_for(space).sample_with_log_prob(inputs, noise) for space in (unit, other)
    )
    moved = target_entropy(other, 1.0) - target_entropy(unit, 1.0)
    torch.testing.assert_close(-in_other, -in_unit + moved)


@pytest.mark.parametrize("space", [box([-np.inf], [1]), box([1], [1]), box([-3e38], [np.inf])])
def test_a_box_without_bounds_or_width_is_rejected(space):
    with pytest.raises(ValueError, match="Bounds"):
        target_entropy(space, 1.0)


def test_other_spaces_are_rejected():
    with pytest.raises(ValueError, match="is needed"):
        target_entropy(MultiBinary(3), 1.0)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_a_fraction_out_of_range_is_rejected(fraction):
    with pytest.raises(ValueError, match="fraction"):
        target_entropy(Discrete(3), fraction)
    with pytest.raises(ValueError, match="fraction"):
        allowed_target_entropy(torch.ones(3, dtype=torch.bool), (3,), fraction)


def test_allowed_targets_hand_computed():
    mask = torch.tensor(
        [
            [True, True, True, True, True],
            [True, False, True, True, False],
            [False, False, True, True, True],  # Nothing of the first component.
        ]
    )
    expected = torch.tensor([math.log(6.0), math.log(2.0), math.log(3.0)]) * 0.5
    torch.testing.assert_close(allowed_target_entropy(mask, (2, 3), 0.5), expected)
    with pytest.raises(ValueError, match="bool mask"):
        allowed_target_entropy(mask, (2, 2), 0.5)


@pytest.mark.parametrize("nvec", [(5,), (2, 3)])
def test_the_whole_fraction_is_what_the_uniform_policy_has(nvec):
    dist = Categorical(*nvec) if len(nvec) == 1 else MultiCategorical(nvec)
    mask = torch.tensor([[True, False, True, True, True], [True, True, True, False, False]])
    uniform = dist.entropy(mask_logits(torch.zeros(2, 5), mask))
    torch.testing.assert_close(allowed_target_entropy(mask, nvec, 1.0), uniform)
    full = target_entropy(Discrete(5) if len(nvec) == 1 else MultiDiscrete(nvec), 1.0)
    assert full == pytest.approx(dist.entropy(torch.zeros(5)).item())


def test_the_gradient_is_the_excess_of_entropy():
    log_alpha = torch.tensor([0.0, 2.0], requires_grad=True)
    entropies = torch.tensor([[1.0, 1.0], [3.0, 2.0]], requires_grad=True)
    targets = torch.tensor([1.0, 4.0])
    loss = temperature_loss(log_alpha, entropies, targets)
    assert loss.tolist() == [[0.0, -6.0], [0.0, -4.0]]
    loss.sum().backward()
    assert log_alpha.grad.tolist() == [2.0, -5.0] and entropies.grad is None


def test_the_temperature_settles_where_the_entropy_is_the_target():
    # One agent, three actions, exact soft-optimal policy at each temperature.
    values, target = torch.tensor([1.0, 0.5, -0.2]), target_entropy(Discrete(3), 0.6)
    log_alpha = torch.zeros((), requires_grad=True)
    dist = Categorical(3)
    for _ in range(400):
        entropy = dist.entropy(values / log_alpha.exp())
        (gradient,) = torch.autograd.grad(temperature_loss(log_alpha, entropy, target), log_alpha)
        log_alpha.data -= 0.5 * gradient
    assert dist.entropy(values / log_alpha.exp()).item() == pytest.approx(target, abs=1e-4)


def test_shapes_that_would_broadcast_are_rejected():
    log_alpha = torch.zeros(2)
    for entropies in (torch.zeros(2, 3), torch.zeros(()), torch.zeros(2, 1)):
        with pytest.raises(ValueError, match="Entropies"):
            temperature_loss(log_alpha, entropies, 0.0)
    with pytest.raises(ValueError, match="Targets"):
        temperature_loss(log_alpha, torch.zeros(5, 2), torch.zeros(5, 1))
