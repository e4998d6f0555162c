"""Ratios too large for a number: the flat side of an objective stays flat, all else as it was."""

import itertools

import pytest
import torch

from rllib_hetero.functional import (
    clipped_joint_surrogate,
    clipped_surrogate,
    fold,
    linear_surrogate,
    peer_surrogate,
    policy_ratio,
)

EPS = 0.2
# exp is finite in single precision up to 88.72, and more than 0 from -103.97 on.
LOG_RATIOS = [
    -1e38,
    -200.0,
    -103.0,
    -80.0,
    -1.0,
    -0.1,
    0.0,
    0.1,
    1.0,
    80.0,
    88.7,
    89.0,
    200.0,
    1e38,
]
ADVANTAGES = [-1e3, -5.0, -1e-3, 0.0, 1e-3, 5.0, 1e3]
CORRECTIONS = [0.0, 1e-38, 0.5, 1.0, 3.0, 1e38, torch.finfo(torch.float32).max]

GRID = torch.tensor(list(itertools.product(LOG_RATIOS, ADVANTAGES, CORRECTIONS)))


# As they stand in the papers, with nothing done about overflow.
def plain_clipped(r, a, m):
    return m * torch.minimum(r * a, r.clamp(1 - EPS, 1 + EPS) * a)


def plain_linear(r, a, m):
    return m * (r * a)


def plain_joint(r, a, m):
    joint = r * m.clamp(0.9, 1.1)
    return torch.minimum(joint * a, joint.clamp(1 - EPS, 1 + EPS) * a)


def plain_peer(r, a, m, action):
    r = r.detach()
    clipped = r.clamp(1 - EPS, 1 + EPS)
    weight = torch.where(r * a <= clipped * a, r, clipped)
    return weight * a * (m[:, None] * (action - action.detach())).sum(-1)


SURROGATES = {
    "clipped": (plain_clipped, lambda r, a, m: clipped_surrogate(r, a, EPS, m)),
    "linear": (plain_linear, lambda r, a, m: linear_surrogate(r, a, m)),
    "joint": (plain_joint, lambda r, a, m: clipped_joint_surrogate(r, a, EPS, m, 0.1)),
}


def value_and_slope(ratio_of, surrogate, log_ratio, *rest):
    """Of every sample."""
    x = log_ratio.clone().requires_grad_()
    value = surrogate(ratio_of(x), *rest)
    (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def our_ratio(x):
    return policy_ratio(x, torch.zeros_like(x))


@pytest.mark.parametrize("name", SURROGATES)
def test_nothing_changes_where_values_and_slopes_are_finite(name):
    plain, ours = SURROGATES[name]
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(3, 2000, generator=generator) * torch.tensor([[40.0], [3.0], [1.0]])
    for x, a, m in (GRID.unbind(1), (random[0], random[1], random[2].exp())):
        value, slope = value_and_slope(torch.exp, plain, x, a, m)
        our_value, our_slope = value_and_slope(our_ratio, ours, x, a, m)
        for was, now in ((value, our_value), (slope, our_slope)):
            finite = was.isfinite()
            assert finite.sum() > len(x) // 2
            assert torch.equal(now[finite], was[finite])


@pytest.mark.parametrize("name", SURROGATES)
def test_no_ratio_makes_a_value_or_a_slope_undefined(name):
    value, slope = value_and_slope(our_ratio, SURROGATES[name][1], *GRID.unbind(1))
    assert not value.isnan().any(), GRID[value.isnan()]
    assert not slope.isnan().any(), GRID[slope.isnan()]


@pytest.mark.parametrize("name", ["clipped", "joint"])
def test_where_the_clipped_side_is_taken_the_slope_is_0(name):
    x, a, m = GRID.unbind(1)
    flat = ((x > 1) & (a > 0)) | ((x < -1) & (a < 0)) | (a == 0)
    _, slope = value_and_slope(our_ratio, SURROGATES[name][1], x, a, m)
    assert (x[flat] > 88).any() and (slope[flat] == 0).all()


def test_where_the_other_side_is_taken_a_ratio_past_all_numbers_still_has_a_slope():
    # That step must not be taken in silence: the learner raises on a gradient that is not finite.
    x = torch.tensor([200.0])
    _, slope = value_and_slope(
        our_ratio, SURROGATES["clipped"][1], x, -torch.ones(1), torch.ones(1)
    )
    assert slope.item() == -torch.finfo(torch.float32).max
    assert (1e3 * slope).isinf()


def test_the_peer_term_is_0_and_its_slope_as_it_was():
    x, a, feedback = GRID.unbind(1)

    def slope(surrogate):
        action = torch.zeros(len(x), 1, requires_grad=True)
        value = surrogate(action)
        return value.detach(), torch.autograd.grad(value.sum(), action)[0][:, 0]

    was, old = slope(lambda action: plain_peer(x.exp(), a, feedback, action))
    value, new = slope(
        lambda action: peer_surrogate(our_ratio(x), a, EPS, feedback[:, None], action)
    )
    assert was.isnan().any() and (value == 0).all()
    assert not new.isnan().any()
    assert torch.equal(new[old.isfinite()], old[old.isfinite()])
    assert (new[(a == 0) | (feedback == 0)] == 0).all()


def test_folding_ends_at_the_largest_number():
    new, _, correction = GRID.unbind(1)
    old, everyone = torch.zeros_like(new), torch.ones(len(new), dtype=torch.bool)
    folded = fold(correction, new, old, everyone)
    assert folded.isfinite().all()
    plain = correction * new.exp()
    assert plain.isnan().any() and plain.isinf().any()
    assert torch.equal(folded[plain.isfinite()], plain[plain.isfinite()])


def test_the_ratio_can_be_differentiated_twice():
    x = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(our_ratio, x) and torch.autograd.gradcheck(our_ratio, x)
