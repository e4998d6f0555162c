"""Surrogates and diagnostics, against hand-computed arrays and slow loops."""

import math

import numpy as np
import pytest
import torch

from rllib_hetero.functional import (
    adaptive_clip,
    approx_kl,
    clip_fraction,
    clipped_joint_surrogate,
    clipped_surrogate,
    linear_surrogate,
    masked_mean,
)

SEEDS = range(5)


def slow_clipped(r, a, m, eps):
    """Per sample, with the correction multiplied into the advantage as the paper writes it."""
    out = []
    for r_i, a_i, m_i in zip(r.tolist(), a.tolist(), m.tolist(), strict=True):
        product = m_i * a_i
        bounded = min(max(r_i, 1 - eps), 1 + eps)
        out.append(min(r_i * product, bounded * product))
    return torch.tensor(out)


def draws(seed, size=200):
    generator = torch.Generator().manual_seed(seed)
    ratio = torch.exp(0.5 * torch.randn(size, generator=generator))
    advantages = torch.randn(size, generator=generator)
    correction = torch.exp(0.5 * torch.randn(size, generator=generator))
    correction[:5] = 0.0
    return ratio, advantages, correction


def test_clipped_surrogate_hand_computed():
    ratio = torch.tensor([0.5, 0.5, 1.0, 1.5, 1.5])
    advantages = torch.tensor([2.0, -2.0, 3.0, 2.0, -2.0])
    # Gains are cut at 1.2 (above) and losses at 0.8 (below); the pessimistic side is not.
    expected = torch.tensor([1.0, -1.6, 3.0, 2.4, -3.0])
    torch.testing.assert_close(clipped_surrogate(ratio, advantages, 0.2), expected)
    correction = torch.tensor([2.0, 0.5, 0.0, 3.0, 1.0])
    expected = torch.tensor([2.0, -0.8, 0.0, 7.2, -3.0])
    torch.testing.assert_close(clipped_surrogate(ratio, advantages, 0.2, correction), expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clip_param", [0.05, 0.2, 0.9])
def test_multiplying_after_the_minimum_equals_multiplying_the_advantage(seed, clip_param):
    ratio, advantages, correction = draws(seed)
    actual = clipped_surrogate(ratio, advantages, clip_param, correction)
    torch.testing.assert_close(actual, slow_clipped(ratio, advantages, correction, clip_param))
    plain = clipped_surrogate(ratio, advantages, clip_param)
    ones = torch.ones_like(correction)
    torch.testing.assert_close(plain, slow_clipped(ratio, advantages, ones, clip_param))


def test_gradient_stops_only_where_clipping_binds():
    ratio = torch.tensor([0.5, 0.5, 1.1, 1.5, 1.5], requires_grad=True)
    advantages = torch.tensor([2.0, -2.0, 3.0, 2.0, -2.0])
    correction = torch.tensor([1.0, 1.0, 4.0, 1.0, 0.5])
    clipped_surrogate(ratio, advantages, 0.2, correction).sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [2.0, 0.0, 12.0, 0.0, -1.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_linear_surrogate_is_the_product(seed):
    ratio, advantages, correction = draws(seed)
    expected = [
        m * r * a
        for m, r, a in zip(correction.tolist(), ratio.tolist(), advantages.tolist(), strict=True)
    ]
    actual = linear_surrogate(ratio, advantages, correction)
    torch.testing.assert_close(actual, torch.tensor(expected))
    torch.testing.assert_close(linear_surrogate(ratio, advantages), ratio * advantages)


def test_clipped_and_linear_agree_to_first_order_at_the_old_policy():
    _, advantages, correction = draws(0)
    grads = []
    for surrogate in (
        lambda r: clipped_surrogate(r, advantages, 0.2, correction),
        lambda r: linear_surrogate(r, advantages, correction),
    ):
        ratio = torch.ones_like(advantages, requires_grad=True)
        grads.append(torch.autograd.grad(surrogate(ratio).sum(), ratio)[0])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("surrogate", [linear_surrogate, lambda *a: clipped_surrogate(*a[:2], 0.2)])
def test_surrogates_reject_a_shape_that_would_broadcast(surrogate):
    with pytest.raises(ValueError, match="Shapes"):
        surrogate(torch.ones(3), torch.ones(3, 1))


def test_surrogates_reject_a_correction_that_would_broadcast_and_a_clip_of_zero():
    x = torch.ones(3)
    with pytest.raises(ValueError, match="correction"):
        linear_surrogate(x, x, torch.ones(3, 1))
    with pytest.raises(ValueError, match="correction"):
        clipped_surrogate(x, x, 0.2, torch.ones(()))
    with pytest.raises(ValueError, match="clip_param"):
        clipped_surrogate(x, x, 0.0)


# The joint action's ratio.


def slow_joint(r, a, others, eps, eps_others):
    out = []
    for r_i, a_i, g_i in zip(r.tolist(), a.tolist(), others.tolist(), strict=True):
        joint = r_i * min(max(g_i, 1 - eps_others), 1 + eps_others)
        out.append(min(joint * a_i, min(max(joint, 1 - eps), 1 + eps) * a_i))
    return torch.tensor(out)


def test_clipped_joint_surrogate_hand_computed_with_its_gradient():
    # eps = 0.2, for the others 0.1. By rows: no clipping at all, at either sign; the others'
    # ratio clipped above and below, at either sign; l above and below the interval, at either
    # sign; one where r alone would be clipped but l is not, and one the other way round.
    rows = [
        # r, others, A, objective, gradient in r
        (1.1, 1.0, 2.0, 2.2, 2.0),
        (1.1, 1.0, -2.0, -2.2, -2.0),
        (1.0, 9.0, 2.0, 2.2, 2.2),
        (1.0, 9.0, -2.0, -2.2, -2.2),
        (1.0, 0.0, 2.0, 1.8, 1.8),
        (1.0, 0.0, -2.0, -1.8, -1.8),
        (1.5, 1.0, 2.0, 2.4, 0.0),
        (1.5, 1.0, -2.0, -3.0, -2.0),
        (0.5, 1.0, 2.0, 1.0, 2.0),
        (0.5, 1.0, -2.0, -1.6, 0.0),
        (1.25, 0.9, 2.0, 2.25, 1.8),
        (1.15, 1.1, 2.0, 2.4, 0.0),
        (1.15, 9.0, -2.0, -2.53, -2.2),
        (0.85, 0.9, -2.0, -1.6, 0.0),
        (0.85, 0.0, 2.0, 1.53, 1.8),
        (1.3, 5.0, 0.0, 0.0, 0.0),
    ]
    r, others, a, expected, slope = torch.tensor(rows).unbind(1)
    r = r.clone().requires_grad_()
    actual = clipped_joint_surrogate(r, a, 0.2, others, 0.1)
    torch.testing.assert_close(actual, expected)
    (grad,) = torch.autograd.grad(actual.sum(), r)
    torch.testing.assert_close(grad, slope)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("eps", "eps_others"), [(0.2, 0.1), (0.1, 0.3), (0.9, 0.05)])
def test_clipped_joint_surrogate_equals_the_slow_loop(seed, eps, eps_others):
    ratio, advantages, others = draws(seed)
    actual = clipped_joint_surrogate(ratio, advantages, eps, others, eps_others)
    torch.testing.assert_close(actual, slow_joint(ratio, advantages, others, eps, eps_others))


@pytest.mark.parametrize("seed", SEEDS)
def test_without_others_it_is_the_plain_clipped_surrogate(seed):
    ratio, advantages, _ = draws(seed)
    actual = clipped_joint_surrogate(ratio, advantages, 0.2, torch.ones_like(ratio), 0.1)
    assert torch.equal(actual, clipped_surrogate(ratio, advantages, 0.2))


def test_clipped_joint_surrogate_rejects_bad_arguments():
    x = torch.ones(3)
    for shapes in ((x, x, torch.ones(3, 1)), (x, torch.ones(1), x), (torch.ones(()), x, x)):
        with pytest.raises(ValueError, match="Shapes"):
            clipped_joint_surrogate(shapes[0], shapes[1], 0.2, shapes[2], 0.1)
    with pytest.raises(ValueError, match="clip_param"):
        clipped_joint_surrogate(x, x, 0.0, x, 0.1)
    with pytest.raises(ValueError, match="others_clip"):
        clipped_joint_surrogate(x, x, 0.2, x, 0.0)
    with pytest.raises(ValueError, match="gradient"):
        clipped_joint_surrogate(x, x, 0.2, torch.ones(3, requires_grad=True), 0.1)


def test_adaptive_clip_hand_computed():
    assert [adaptive_clip(0.2, k, 4) for k in (1, 2, 3, 4)] == pytest.approx(
        [0.125, 0.15, 0.175, 0.2]
    )
    assert adaptive_clip(0.2, 1, 1) == 0.2
    assert adaptive_clip(0.2, 1, 2, coeff=0.8) == pytest.approx(0.18)
    assert adaptive_clip(0.2, 1, 2, coeff=0.0) == pytest.approx(0.1)
    assert adaptive_clip(0.2, 1, 2, coeff=1.0) == 0.2


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.0, 1, 2), "clip_param"),
        ((0.2, 0, 2), "position"),
        ((0.2, 3, 2), "position"),
        ((0.2, 1, 2, -0.1), "coeff"),
        ((0.2, 1, 2, 1.1), "coeff"),
    ],
)
def test_adaptive_clip_rejects_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        adaptive_clip(*arguments)


def test_masked_mean_hand_computed():
    x = torch.tensor([1.0, 2.0, 6.0])
    assert masked_mean(x, torch.tensor([True, False, True])).item() == 3.5
    assert masked_mean(x, torch.tensor([1.0, 2.0, 1.0])).item() == 2.75
    assert masked_mean(x, torch.tensor([True, False, True]), 14).item() == 0.5
    assert masked_mean(x, torch.tensor([True, False, True]), torch.tensor(14.0)).item() == 0.5


def test_masked_mean_takes_fractional_totals_below_one():
    x, w = torch.tensor([1.0, 3.0]), torch.tensor([0.25, 0.25])
    assert masked_mean(x, w).item() == 2.0
    assert masked_mean(x, w, 0.25).item() == 4.0


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_by_a_global_total_add_up_to_the_global_mean(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, generator=generator)
    w = torch.rand(40, generator=generator) < 0.6
    w[:10] = False  # One shard without any active sample.
    shards = [slice(0, 10), slice(10, 11), slice(11, 40)]
    total = w.sum()
    shares = [masked_mean(x[s], w[s], total) for s in shards]
    expected = np.mean([v for v, on in zip(x.tolist(), w.tolist(), strict=True) if on])
    assert sum(s.item() for s in shares) == pytest.approx(expected, rel=1e-5)
    assert shares[0].item() == 0.0


def test_masked_mean_does_not_read_or_differentiate_entries_of_weight_zero():
    x = torch.tensor([2.0, float("nan")], requires_grad=True)
    mean = masked_mean(x, torch.tensor([True, False]))
    mean.backward()
    assert mean.item() == 2.0
    assert x.grad is not None and x.grad.tolist() == [1.0, 0.0]


def test_masked_mean_of_nothing_is_zero_with_a_zero_gradient():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    mean = masked_mean(x, torch.zeros(2))
    mean.backward()
    assert mean.item() == 0.0
    assert x.grad is not None and x.grad.tolist() == [0.0, 0.0]


def test_masked_mean_rejects_weights_that_would_broadcast():
    with pytest.raises(ValueError, match="Shapes"):
        masked_mean(torch.ones(3), torch.ones(3, 1))


def test_clip_fraction_hand_computed():
    ratio = torch.tensor([0.7, 0.9, 1.0, 1.1, 1.3, 9.0])
    weights = torch.tensor([True, True, True, True, True, False])
    assert clip_fraction(ratio, 0.2, weights).item() == pytest.approx(2 / 5)
    assert clip_fraction(ratio, 0.05, weights).item() == pytest.approx(4 / 5)
    assert clip_fraction(ratio, 0.2, weights, total=20).item() == pytest.approx(2 / 20)


def test_approx_kl_hand_computed():
    log_ratio = torch.tensor([0.0, math.log(2.0), math.log(0.5), 5.0])
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0])
    expected = (0.0 + (1.0 - math.log(2.0)) + (math.log(2.0) - 0.5)) / 3
    assert approx_kl(log_ratio, weights).item() == pytest.approx(expected, rel=1e-6)
    assert approx_kl(log_ratio, weights, total=6).item() == pytest.approx(expected / 2, rel=1e-6)


def test_approx_kl_has_the_exact_divergence_as_its_mean_under_the_old_policy():
    old, new = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.4, 0.4, 0.2])
    exact = (old * (old / new).log()).sum()
    torch.testing.assert_close(approx_kl((new / old).log(), old), exact)


def test_approx_kl_keeps_its_digits_near_zero():
    log_ratio = torch.full((8,), 1e-3)
    # e^x - 1 - x = x^2 / 2 + x^3 / 6 + ...
    expected = 1e-6 / 2 + 1e-9 / 6
    assert approx_kl(log_ratio, torch.ones(8)).item() == pytest.approx(expected, rel=1e-3)


def test_diagnostics_carry_no_gradient():
    x = torch.ones(3, requires_grad=True)
    assert not approx_kl(x, torch.ones(3)).requires_grad
    assert not clip_fraction(x, 0.2, torch.ones(3)).requires_grad
