"""Choices and numbers as one action: everything is the sum of the two."""

import numpy as np
import torch

from rllib_hetero.functional import (
    DiagGaussian,
    Mixed,
    MultiCategorical,
    encode,
    encode_tensor,
    mask_choices,
    mask_inputs,
    message_size,
    reparameterized,
)

CHOICES, NUMBERS = MultiCategorical((3, 2)), DiagGaussian(2)
MIXED = Mixed(CHOICES, NUMBERS)


def draw(n=6):
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.standard_normal((n, MIXED.size), dtype=np.float32))
    noise = torch.from_numpy(MIXED.noise(rng, (n,)))
    return inputs, noise, MIXED.sample(inputs, noise)


def test_sizes():
    assert (MIXED.size, MIXED.noise_size, MIXED.choices) == (9, 7, (3, 2))
    assert MIXED.action_shape == (4,) and MIXED.action_dtype == np.float32
    assert message_size(MIXED) == 5 + 2 and not MIXED.within_space


def test_both_halves_are_what_they_are_alone():
    inputs, noise, actions = draw()
    chosen, numbers = actions[:, :2].long(), actions[:, 2:]
    assert torch.equal(chosen, CHOICES.sample(inputs[:, :5], noise[:, :5]))
    assert torch.equal(numbers, NUMBERS.sample(inputs[:, 5:], noise[:, 5:]))
    log_prob = CHOICES.log_prob(inputs[:, :5], chosen) + NUMBERS.log_prob(inputs[:, 5:], numbers)
    assert torch.equal(MIXED.log_prob(inputs, actions), log_prob)
    entropy = CHOICES.entropy(inputs[:, :5]) + NUMBERS.entropy(inputs[:, 5:])
    assert torch.equal(MIXED.entropy(inputs), entropy)
    new = inputs + 0.1
    kl = CHOICES.kl(inputs[:, :5], new[:, :5]) + NUMBERS.kl(inputs[:, 5:], new[:, 5:])
    assert torch.equal(MIXED.kl(inputs, new), kl)
    np.testing.assert_allclose(MIXED.act(inputs.numpy(), noise.numpy()), actions, rtol=1e-6)
    np.testing.assert_array_equal(MIXED.act(inputs.numpy(), None), MIXED.mode(inputs))


def test_masks_are_for_the_choices():
    inputs, noise, _ = draw()
    mask = torch.tensor([False, True, True, False, True]).expand(6, -1)
    masked = mask_choices(MIXED, inputs, mask)
    assert torch.equal(masked[:, 5:], inputs[:, 5:])
    np.testing.assert_array_equal(masked, mask_inputs(MIXED, inputs.numpy(), mask.numpy()))
    actions = MIXED.sample(masked, noise)
    assert (actions[:, 0] > 0).all() and (actions[:, 1] == 1).all()


def test_messages():
    inputs, _, actions = draw()
    inputs.requires_grad_()
    message = encode_tensor(MIXED, actions)
    np.testing.assert_array_equal(encode(MIXED, actions.detach().numpy()), message.detach())
    exponentials = torch.rand(6, MIXED.size) + 0.1
    through = reparameterized(MIXED, inputs, actions.detach(), exponentials, 1.0)
    assert torch.equal(through.detach(), message.detach())
    through[:, :5].square().sum().backward()
    assert inputs.grad[:, :5].abs().sum() > 0 and not inputs.grad[:, 5:].any()
