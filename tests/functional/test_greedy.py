"""Epsilon-greedy actions: by hand, by a slow loop, by their frequencies, with masks."""

import math
import pickle

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rllib_hetero.functional import (
    POLICY_FAMILIES,
    Density,
    EpsilonGreedy,
    encode,
    mask_inputs,
    mask_logits,
    message_size,
    nothing_allowed,
    reparameterized,
)

DIST = EpsilonGreedy(4)
LOWEST = float(np.finfo(np.float32).min)


def draw(seed, batch, epsilon=0.5, masked=True):
    """Inputs (with about a third of the choices forbidden) and noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(*batch, 5)).astype(np.float32)
    inputs[..., -1] = epsilon
    if masked:
        mask = rng.random((*batch, 4)) < 0.65
        mask[..., 1] |= ~mask.any(-1)
        inputs = mask_inputs(DIST, inputs, mask)
    return inputs, DIST.noise(rng, batch)


def slow_action(row, noise):
    values, epsilon = row[:-1].tolist(), row[-1]
    allowed = [a for a, q in enumerate(values) if q > LOWEST]
    if noise[0] < epsilon:
        return max(allowed, key=lambda a: noise[1 + a])
    return max(range(len(values)), key=lambda a: values[a])


def test_sizes_and_family():
    assert (DIST.size, DIST.noise_size, DIST.choices, DIST.action_shape) == (5, 5, (4,), ())
    assert DIST.action_dtype == np.int64 and DIST.within_space and not isinstance(DIST, Density)
    assert pickle.loads(pickle.dumps(DIST)) == DIST == POLICY_FAMILIES["greedy"](Discrete(4))
    assert message_size(DIST) == 4
    assert encode(DIST, np.array([2, 0])).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert nothing_allowed(np.zeros((1, 4), bool), DIST).tolist() == [True]
    with pytest.raises(ValueError, match="No policy gradient"):
        reparameterized(DIST, torch.zeros(1, 5), torch.zeros(1).long(), torch.ones(1, 5), 1.0)


@pytest.mark.parametrize(
    "space", [Box(-1.0, 1.0, (2,), np.float32), MultiDiscrete([2, 2]), Discrete(3, start=1)]
)
def test_other_spaces_are_refused(space):
    with pytest.raises(ValueError, match=r"a Discrete .* is needed"):
        POLICY_FAMILIES["greedy"](space)


def test_hand_computed():
    values = [1.0, LOWEST, 3.0, 2.0]
    inputs = np.float32([[*values, 0.25]] * 3)
    noise = np.float32([[0.24, 5.0, 9.0, 0.0, 1.0], [0.25, 5.0, 9.0, 0.0, 1.0], [0.0, 0, 9, 1, 2]])
    # Below epsilon the largest allowed noise, else the highest value; 0.25 is not below 0.25.
    assert DIST.act(inputs, noise).tolist() == [0, 2, 3]
    assert DIST.sample(torch.from_numpy(inputs), torch.from_numpy(noise)).tolist() == [0, 2, 3]
    assert DIST.act(inputs, None).tolist() == [2, 2, 2]
    assert DIST.mode(torch.from_numpy(inputs)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [(1,), (50,), (6, 7)])
def test_numpy_torch_and_a_slow_loop_act_alike(batch, seed):
    inputs, noise = draw(seed, batch)
    before = inputs.copy(), noise.copy()
    actions = DIST.act(inputs, noise)
    assert actions.shape == batch and actions.dtype == np.int64
    assert noise.shape == (*batch, 5) and noise.dtype == np.float32
    slow = [slow_action(inputs[i], noise[i]) for i in np.ndindex(batch)]
    assert actions.ravel().tolist() == slow
    sampled = DIST.sample(torch.from_numpy(inputs), torch.from_numpy(noise))
    assert np.array_equal(sampled, actions)
    assert np.array_equal(DIST.act(inputs, None), DIST.mode(torch.from_numpy(inputs)))
    assert np.array_equal(inputs, before[0]) and np.array_equal(noise, before[1])


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_frequencies(epsilon):
    """epsilon / allowed for each allowed choice, the rest for the best; none for the others."""
    count = 40_000
    row = np.float32([[0.5, 50.0, 2.0, -1.0, epsilon]])
    row = mask_inputs(DIST, row, np.array([[True, False, True, True]]))
    actions = DIST.act(np.repeat(row, count, 0), DIST.noise(np.random.default_rng(1), (count,)))
    frequency = np.bincount(actions, minlength=4) / count
    expected = np.array([epsilon / 3, 0.0, 1 - epsilon + epsilon / 3, epsilon / 3])
    # Five standard errors of a frequency.
    error = 5 * np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(frequency - expected) <= error).all(), frequency


def test_draws_are_independent_of_each_other():
    """Whether one explores says nothing of the others: environments, agents and steps differ."""
    count = 20_000
    inputs = np.tile(np.float32([[[0.0, 1.0, 0.0, 0.0, 0.5]] * 2]), (count, 1, 1))
    off = DIST.act(inputs, DIST.noise(np.random.default_rng(3), (count, 2))) != 1
    assert abs(np.corrcoef(off.T)[0, 1]) < 5 / math.sqrt(count)
    assert abs(np.corrcoef(off[:-1, 0], off[1:, 0])[0, 1]) < 5 / math.sqrt(count)


def test_masks_touch_the_values_only():
    inputs = np.float32([[1.0, 2.0, 3.0, 4.0, 0.1]])
    mask = np.array([[True, False, True, False]])
    masked = mask_inputs(DIST, inputs, mask)
    assert masked.tolist() == [[1.0, LOWEST, 3.0, LOWEST, np.float32(0.1)]]
    assert inputs[0, 1] == 2.0  # A new array.
    values = mask_logits(torch.from_numpy(inputs)[..., :4], torch.from_numpy(mask))
    assert np.array_equal(values, masked[..., :4])
    for wrong in (np.ones((1, 5), bool), np.ones((1, 3), bool), mask.astype(float)):
        with pytest.raises(ValueError, match="bool mask"):
            mask_inputs(DIST, inputs, wrong)


def test_all_forbidden_or_minus_infinity():
    """Nothing to choose: some index, no error. The fragment's check reports it."""
    row = np.float32([[LOWEST] * 4 + [0.5]])
    for u in (0.1, 0.9):
        assert DIST.act(row, np.float32([[u, 1, 2, 3, 4]])).shape == (1,)
    row[0, :4] = [-np.inf, 0.0, -np.inf, -1.0]
    noise = np.float32([[0.1, 9.0, 1.0, 9.0, 2.0]])
    assert DIST.act(row, noise).tolist() == [3]


def test_noise_is_uniform_then_gumbel():
    noise = DIST.noise(np.random.default_rng(0), (20_000,))
    u, gumbel = noise[:, 0], noise[:, 1:]
    assert u.min() >= 0.0 and u.max() < 1.0
    assert abs(u.mean() - 0.5) < 5 / math.sqrt(12 * 20_000)
    error = 5 * math.pi / math.sqrt(6 * gumbel.size)
    assert abs(gumbel.mean() - 0.5772156649) < error  # Euler's constant.
    again = DIST.noise(np.random.default_rng(0), (20_000,))
    assert np.array_equal(noise, again)


def test_wrong_shapes_are_rejected():
    inputs, noise = map(torch.from_numpy, draw(0, (3,)))
    for call in (
        lambda: DIST.mode(inputs[..., 1:]),
        lambda: DIST.sample(inputs, noise[:1]),
        lambda: DIST.sample(inputs, noise[..., 1:]),
        lambda: DIST.act(inputs.numpy()[..., 1:], None),
    ):
        with pytest.raises(ValueError, match="must have shape"):
            call()
