"""Straight-through one-hots: values, the path of their gradients, masks."""

import numpy as np
import pytest
import torch

from rllib_hetero.functional import gumbel_one_hots, straight_through

NVECS = [(4,), (1,), (2, 4, 3)]
LOWEST = torch.finfo(torch.float32).min


def draw(nvec, shape, seed=0):
    """Logits, Gumbel noise, and masks that leave something of each component."""
    rng = np.random.default_rng(seed)
    logits, gumbels = rng.normal(size=(*shape, sum(nvec))), rng.gumbel(size=(*shape, sum(nvec)))
    mask = rng.random((*shape, sum(nvec))) < 0.5
    starts = np.cumsum((0, *nvec[:-1]))
    mask[..., starts] = True
    return torch.from_numpy(logits), torch.from_numpy(gumbels), torch.from_numpy(mask)


def slow_choices(scores, nvec, mask=None):
    """The chosen entries of one sample, component after component."""
    chosen, start = [], 0
    for n in nvec:
        entries = [j for j in range(start, start + n) if mask is None or mask[j]]
        chosen.append(max(entries, key=lambda j: scores[j]))
        start += n
    return chosen


def test_value_and_gradient_of_two_tensors():
    value, path = torch.tensor([1.0, 0.1]), torch.tensor([1e8, 0.3], requires_grad=True)
    out = straight_through(value, path)
    assert out.tolist() == value.tolist()
    (out * torch.tensor([2.0, 3.0])).sum().backward()
    assert path.grad.tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="Shapes"):
        straight_through(value, path[:1])


def test_one_hots_hand_computed():
    logits = torch.tensor([[0.0, 1.0, 5.0, 0.0, 0.0]])
    gumbels = torch.tensor([[2.0, 0.0, -9.0, 0.0, 1.0]])
    assert gumbel_one_hots(logits, (2, 3), None, 1.0).tolist() == [[0, 1, 1, 0, 0]]
    assert gumbel_one_hots(logits, (2, 3), gumbels, 1.0).tolist() == [[1, 0, 0, 0, 1]]
    mask = torch.tensor([[False, True, True, True, False]])
    assert gumbel_one_hots(logits, (2, 3), gumbels, 1.0, mask).tolist() == [[0, 1, 0, 1, 0]]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("nvec", NVECS, ids=str)
def test_one_hots_equal_a_loop_over_components(nvec, masked):
    logits, gumbels, mask = draw(nvec, (40, 2))
    actual = gumbel_one_hots(logits, nvec, gumbels, 0.3, mask if masked else None)
    assert actual.dtype == logits.dtype
    for row in np.ndindex(40, 2):
        expected = torch.zeros(sum(nvec))
        expected[slow_choices((logits + gumbels)[row], nvec, mask[row] if masked else None)] = 1
        assert actual[row].tolist() == expected.tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("nvec", NVECS, ids=str)
def test_the_gradient_is_that_of_the_softmax_over_what_is_allowed(nvec, masked, temperature):
    logits, gumbels, mask = (x[0] for x in draw(nvec, (1,), seed=1))
    if not masked:
        mask = torch.ones_like(mask)

    def softmax(x):
        scores = torch.where(mask, (x + gumbels) / temperature, -torch.inf)
        return torch.cat([part.softmax(-1) for part in scores.split(nvec)])

    actual, expected = (
        torch.autograd.functional.jacobian(f, logits)
        for f in (
            lambda x: gumbel_one_hots(x, nvec, gumbels, temperature, mask if masked else None),
            softmax,
        )
    )
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)
    assert (actual[:, ~mask] == 0).all()
    assert actual.abs().max() > 0.01 or nvec == (1,)


def test_draws_are_distributed_as_the_policy():
    logits = torch.tensor([0.0, 1.0, 2.0, 0.5, -0.5])
    gumbels = torch.from_numpy(np.random.default_rng(0).gumbel(size=(40_000, 5))).float()
    mask = torch.tensor([True, False, True, True, True]).expand(40_000, 5)
    rows = logits.expand(40_000, 5)
    share = gumbel_one_hots(rows, (3, 2), gumbels, 1.0, mask).mean(0)
    p = torch.cat([torch.tensor([0.0, -torch.inf, 2.0]).softmax(-1), logits[3:].softmax(-1)])
    # Five standard deviations of a share of 40,000 draws.
    assert ((share - p).abs() <= 5 * (p * (1 - p) / 40_000).sqrt()).all()


def test_forbidden_logits_are_not_read():
    logits = torch.tensor([[torch.nan, 1.0, torch.inf], [torch.nan, 1.0, 2.0]], requires_grad=True)
    mask = torch.tensor([[False, True, False], [False, True, True]])
    out = gumbel_one_hots(logits, (3,), torch.tensor([[60.0, -60.0, 0.0]] * 2), 0.1, mask)
    assert out.tolist() == [[0, 1, 0], [0, 0, 1]]
    out[:, 1].sum().backward()
    assert logits.grad.isfinite().all() and logits.grad[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("temperature", [1e-3, 1.0])
def test_nothing_allowed_takes_the_first_and_stays_finite(temperature):
    logits = torch.randn(3, 4, requires_grad=True)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    out = gumbel_one_hots(logits, (4,), torch.randn(3, 4), temperature, mask)
    assert out.tolist() == [[1, 0, 0, 0]] * 3
    out.sum().backward()
    assert (logits.grad == 0).all()
    # The same where the mask is in the logits already.
    out = gumbel_one_hots(torch.full((3, 4), LOWEST), (4,), None, temperature)
    assert out.tolist() == [[1, 0, 0, 0]] * 3


def test_bad_input_is_rejected():
    x = torch.zeros(2, 5)
    with pytest.raises(ValueError, match="Logits"):
        gumbel_one_hots(x, (2, 2), x, 1.0)
    with pytest.raises(ValueError, match="Shapes"):
        gumbel_one_hots(x, (2, 3), x[:1], 1.0)
    with pytest.raises(ValueError, match="temperature"):
        gumbel_one_hots(x, (2, 3), x, 0.0)
    with pytest.raises(ValueError, match="mask"):
        gumbel_one_hots(x, (2, 3), x, 1.0, x)
