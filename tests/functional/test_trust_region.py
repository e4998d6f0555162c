"""The trust-region step: against dense linear algebra, and matrices summed up in loops."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from rllib_hetero.functional import (
    Categorical,
    DiagGaussian,
    LineSearchResult,
    MultiCategorical,
    Trial,
    conjugate_gradient,
    fisher_product,
    flat,
    largest_step,
    line_search,
    mask_logits,
    masked_mean,
    unflat,
)

SEEDS = range(4)
NAN = float("nan")


def spd(seed, size, smallest=0.1):
    """A random symmetric positive definite matrix of known smallest and largest eigenvalue."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return torch.from_numpy(q * np.geomspace(smallest, 1.0, size) @ q.T)


def vector(seed, size):
    return torch.from_numpy(np.random.default_rng(seed + 50).normal(size=size))


# Rows of parameters.


def test_flat_and_unflat_undo_each_other():
    tensors = [torch.arange(6.0).reshape(2, 3), torch.tensor(7.0), torch.tensor([8.0, 9.0])]
    row = flat(tensors)
    assert row.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 9.0]
    for back, tensor in zip(unflat(row, tensors), tensors, strict=True):
        assert torch.equal(back, tensor)
    assert flat(x.T for x in tensors[:1]).tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]


@pytest.mark.parametrize("shape", [(4,), (6,), (5, 1)])
def test_unflat_rejects_a_vector_of_another_size(shape):
    with pytest.raises(ValueError, match=r"\(5,\)"):
        unflat(torch.zeros(shape), [torch.zeros(2, 2), torch.zeros(())])


# Conjugate gradients.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_conjugate_gradient_solves_as_dense_algebra_does(seed, size):
    matrix, b = spd(seed, size), vector(seed, size)
    x, residual = conjugate_gradient(lambda v: matrix @ v, b, iterations=3 * size)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-7, atol=1e-9)
    assert residual.shape == () and residual <= 1e-10


def test_conjugate_gradient_hand_computed():
    # H = diag(1, 3), b = (1, 1): the first step is 2/4, leaving r = (1/2, -1/2).
    diagonal = torch.tensor([1.0, 3.0], dtype=torch.float64)
    b = torch.ones(2, dtype=torch.float64)
    x, residual = conjugate_gradient(lambda v: diagonal * v, b, iterations=1)
    assert x.tolist() == [0.5, 0.5]
    assert residual.item() == pytest.approx(0.5)
    x, residual = conjugate_gradient(lambda v: diagonal * v, b, iterations=2)
    np.testing.assert_allclose(x, [1.0, 1.0 / 3.0])
    assert residual.item() < 1e-15


@pytest.mark.parametrize("seed", SEEDS)
def test_few_iterations_give_the_best_of_the_krylov_space_and_the_true_residual(seed):
    size, iterations = 12, 4
    matrix, b = spd(seed, size, 1e-3), vector(seed, size)
    x, residual = conjugate_gradient(lambda v: matrix @ v, b, iterations=iterations)
    # The minimum of x.Hx / 2 - b.x over span{b, Hb, H^2 b, H^3 b}, by dense algebra.
    powers = [b]
    for _ in range(iterations - 1):
        powers.append(matrix @ powers[-1])
    basis, _ = torch.linalg.qr(torch.stack(powers, dim=1))
    best = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)
    torch.testing.assert_close(x, best, rtol=1e-6, atol=1e-8)
    true_residual = (b - matrix @ x).norm() / b.norm()
    assert residual.item() == pytest.approx(true_residual.item(), rel=1e-6)


def test_conjugate_gradient_with_a_bad_condition_gets_close():
    matrix, b = spd(0, 20, 1e-8), vector(0, 20)
    x, residual = conjugate_gradient(lambda v: matrix @ v, b, iterations=2000)
    expected = torch.linalg.solve(matrix, b)
    assert residual < 1e-9
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_right_hand_side_needs_no_product(dtype):
    def product(v):
        raise AssertionError("called")

    x, residual = conjugate_gradient(product, torch.zeros(3, dtype=dtype), iterations=5)
    assert x.tolist() == [0.0] * 3 and residual.item() == 0.0
    assert x.dtype == residual.dtype == dtype


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_a_right_hand_side_that_is_not_finite_gives_zeros_and_no_residual(bad):
    x, residual = conjugate_gradient(lambda v: v, torch.tensor([1.0, bad]), iterations=5)
    assert x.tolist() == [0.0, 0.0] and math.isnan(residual)


def test_conjugate_gradient_stops_at_the_tolerance_and_not_before():
    matrix, b, calls = spd(1, 10, 1e-2), vector(1, 10), []

    def product(v):
        calls.append(v)
        return matrix @ v

    _, residual = conjugate_gradient(product, b, iterations=50, tolerance=0.1)
    loose = len(calls)
    assert residual <= 0.1
    _, previous = conjugate_gradient(product, b, iterations=loose - 1, tolerance=0.1)
    assert previous > 0.1
    calls.clear()
    conjugate_gradient(lambda v: calls.append(v) or v, b, iterations=50)
    assert len(calls) == 1  # The identity is solved in one step.


@pytest.mark.parametrize("curvature", [0.0, -1.0, NAN])
def test_curvature_that_is_not_positive_ends_with_what_was_reached(curvature):
    # Along the first axis H is 1; the second direction meets the bad curvature.
    diagonal = torch.tensor([1.0, curvature])
    x, residual = conjugate_gradient(lambda v: diagonal * v, torch.tensor([0.0, 1.0]), iterations=9)
    assert x.tolist() == [0.0, 0.0] and residual.item() == 1.0
    x, residual = conjugate_gradient(
        lambda v: diagonal.nan_to_num(0.0) * v, torch.tensor([1.0, 0.5]), iterations=9
    )
    assert torch.isfinite(x).all() and torch.isfinite(residual) and x[0] > 0


def test_conjugate_gradient_leaves_b_alone_and_carries_no_gradient():
    b = torch.tensor([1.0, 2.0], requires_grad=True)
    scale = torch.tensor([1.0, 3.0], requires_grad=True)
    x, residual = conjugate_gradient(lambda v: scale * v, b, iterations=5)
    assert b.tolist() == [1.0, 2.0]
    assert not x.requires_grad and not residual.requires_grad


def test_conjugate_gradient_rejects_bad_arguments():
    with pytest.raises(ValueError, match="axes"):
        conjugate_gradient(lambda v: v, torch.ones(2, 2), iterations=1)
    with pytest.raises(ValueError, match="Shapes"):
        conjugate_gradient(lambda v: v[:1], torch.ones(2), iterations=1)
    with pytest.raises(ValueError, match="iterations"):
        conjugate_gradient(lambda v: v, torch.ones(2), iterations=0)


# Fisher products.


class Net(nn.Module):
    """Two layers with a LayerNorm between, and a parameter that nothing depends on."""

    def __init__(self, size, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.second = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, size)
        self.unused = nn.Parameter(torch.ones(2))
        nn.init.normal_(self.norm.weight)
        self.double()

    def forward(self, states):
        return self.second(torch.tanh(self.norm(self.first(states))))


def inputs_of(net, dist, states, mask):
    inputs = net(states)
    return inputs if mask is None else mask_logits(inputs, mask)


def product_of(net, dist, states, *, mask=None, mean=torch.mean, parameters=None):
    """The library's product for a network; `mean` is over the samples' KL."""
    old = inputs_of(net, dist, states, mask)
    parameters = list(net.parameters()) if parameters is None else parameters
    return fisher_product(old, lambda z: mean(dist.kl(old.detach(), z)), parameters)


def actions_of(dist):
    sizes = [dist.n] if isinstance(dist, Categorical) else dist.nvec
    joint = torch.tensor(list(itertools.product(*map(range, sizes))))
    return joint[:, 0] if isinstance(dist, Categorical) else joint


def gradient_row(scalar, parameters):
    grads = torch.autograd.grad(scalar, parameters, retain_graph=True, allow_unused=True)
    rows = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
    return torch.cat([row.flatten() for row in rows])


def slow_fisher(net, dist, states, weights, mask=None):
    """sum_s w(s) sum_a pi(a|s) grad log pi(a|s) (grad log pi(a|s))^T / sum_s w(s)."""
    parameters = list(net.parameters())
    size = sum(p.numel() for p in parameters)
    total = torch.zeros(size, size, dtype=torch.float64)
    for s, weight in enumerate(weights):
        row_mask = None if mask is None else mask[s]
        if isinstance(dist, DiagGaussian):
            # F of (mean, log std) is diag(1 / var, 2), whatever the mean.
            inputs = inputs_of(net, dist, states[s], row_mask)
            jacobian = torch.stack([gradient_row(x, parameters) for x in inputs])
            variance = torch.exp(2.0 * inputs[dist.dim :].detach())
            known = torch.cat([1.0 / variance, torch.full_like(variance, 2.0)])
            total += weight * jacobian.T @ (known[:, None] * jacobian)
            continue
        for action in actions_of(dist):
            log_p = dist.log_prob(inputs_of(net, dist, states[s], row_mask), action)
            if log_p.exp() > 0:
                row = gradient_row(log_p, parameters)
                total += weight * log_p.exp().detach() * torch.outer(row, row)
    return total / sum(weights)


def masks_for(dist, batch, seed):
    """Random masks that leave each component at least its last choice."""
    mask = torch.rand(batch, dist.size, generator=torch.Generator().manual_seed(seed)) < 0.5
    sizes = [dist.n] if isinstance(dist, Categorical) else dist.nvec
    mask[:, np.cumsum(sizes) - 1] = True
    return mask


CASES = [
    (Categorical(4), False),
    (Categorical(4), True),
    (MultiCategorical((2, 3)), False),
    (MultiCategorical((2, 3)), True),
    (DiagGaussian(2), False),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dist", "masked"), CASES, ids=str)
def test_fisher_product_equals_the_matrix_summed_over_actions(dist, masked, seed):
    net = Net(dist.size, seed)
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0], dtype=torch.float64)
    mask = masks_for(dist, 5, seed) if masked else None
    matrix = slow_fisher(net, dist, states, weights.tolist(), mask)

    mean = functools.partial(masked_mean, weights=weights)
    product = product_of(net, dist, states, mask=mask, mean=mean)
    for v in torch.randn(3, len(matrix), generator=generator, dtype=torch.float64):
        expected = matrix @ v
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(product(v), expected, rtol=1e-9, atol=1e-12)
        with torch.no_grad():
            torch.testing.assert_close(product(v), expected, rtol=1e-9, atol=1e-12)
    assert not product(v).requires_grad
    assert product(v)[: net.unused.numel()].tolist() == [0.0, 0.0]  # The first by registration.


def test_shares_of_the_fisher_product_add_up_over_learners():
    dist, net = Categorical(3), Net(3, 0)
    states = torch.randn(6, 3, dtype=torch.float64)
    parameters = list(net.parameters())

    def product(rows, total):
        def mean(kl):
            return masked_mean(kl, torch.ones(len(kl)), total)

        return product_of(net, dist, states[rows], mean=mean)

    v = torch.randn(sum(p.numel() for p in parameters), dtype=torch.float64)
    shares = product(slice(0, 2), 6)(v) + product(slice(2, 6), 6)(v) + product(slice(6, 6), 6)(v)
    torch.testing.assert_close(shares, product(slice(0, 6), None)(v))


@pytest.mark.parametrize("dist", [Categorical(4), DiagGaussian(2)], ids=str)
def test_fisher_product_equals_differentiating_the_divergence_twice(dist):
    net, states = Net(dist.size, 0), torch.randn(7, 3, dtype=torch.float64)
    parameters = [p for p in net.parameters() if p is not net.unused]
    new = net(states)
    kl = dist.kl(new.detach(), new).mean()
    slopes = torch.autograd.grad(kl, parameters, create_graph=True)
    v = torch.randn(sum(p.numel() for p in parameters), dtype=torch.float64)
    twice = torch.autograd.grad(slopes, parameters, unflat(v, parameters), retain_graph=True)
    product = product_of(net, dist, states, parameters=parameters)
    torch.testing.assert_close(product(v), flat(twice))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_fisher_product_goes_through_a_memory(kind):
    torch.manual_seed(0)
    net, dist, x = kind(2, 3, batch_first=True).double(), Categorical(3), torch.randn(4, 5, 2)
    x = x.double()
    parameters = list(net.parameters())
    new = net(x)[0]
    slopes = torch.autograd.grad(dist.kl(new.detach(), new).mean(), parameters, create_graph=True)
    v = torch.randn(sum(p.numel() for p in parameters), dtype=torch.float64)
    twice = torch.autograd.grad(slopes, parameters, unflat(v, parameters), retain_graph=True)
    product = fisher_product(new, lambda z: dist.kl(new.detach(), z).mean(), parameters)
    torch.testing.assert_close(product(v), flat(twice))


def test_fisher_product_hand_computed():
    # z = x^2 at x = 1: J = 2. KL = (z - 1)^2 / 2 per sample, mean of one: K = 1. H = 4.
    x, y = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    product = fisher_product(x**2, lambda z: ((z - 1.0) ** 2 / 2).mean(), [x, y])
    assert product(torch.tensor([3.0, 5.0])).tolist() == [12.0, 0.0]


def test_fisher_product_rejects_what_it_cannot_differentiate():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="scalar"):
        fisher_product(x * x, lambda z: z**2, [x])
    with pytest.raises(ValueError, match="graph"):
        fisher_product((x * x).detach(), lambda z: (z**2).sum(), [x])
    with pytest.raises(ValueError, match=r"\(2,\)"):
        fisher_product(x * x, lambda z: (z**2).sum(), [x])(torch.ones(3))


# The step's length.


@pytest.mark.parametrize("seed", SEEDS)
def test_the_largest_step_meets_the_quadratic_threshold(seed):
    matrix, x = spd(seed, 6), vector(seed, 6)
    step = largest_step(x, matrix @ x, 0.03) * x
    assert (0.5 * step @ matrix @ step).item() == pytest.approx(0.03, rel=1e-12)


def test_the_largest_step_hand_computed():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    beta = largest_step(x, torch.tensor([3.0, 0.5]), 2.0)
    assert beta.item() == 1.0 and beta.shape == () and not beta.requires_grad


@pytest.mark.parametrize("product", [[0.0, 0.0], [-1.0, 0.0], [NAN, 0.0]])
def test_without_curvature_there_is_no_step(product):
    assert largest_step(torch.ones(2), torch.tensor(product), 0.1).item() == 0.0


def test_the_largest_step_rejects_bad_arguments():
    with pytest.raises(ValueError, match="Shapes"):
        largest_step(torch.ones(2), torch.ones(3), 0.1)
    with pytest.raises(ValueError, match="axes"):
        largest_step(torch.ones(2, 1), torch.ones(2, 1), 0.1)
    with pytest.raises(ValueError, match="kl_threshold"):
        largest_step(torch.ones(2), torch.ones(2), 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_small_natural_step_of_a_network_has_the_threshold_as_its_true_kl(seed):
    # All the parts together; as delta -> 0 the quadratic model becomes exact.
    dist, net, delta = MultiCategorical((2, 3)), Net(5, seed), 1e-11
    states = torch.randn(8, 3, dtype=torch.float64)
    parameters = [p for p in net.parameters() if p is not net.unused]
    new = net(states)
    product = product_of(net, dist, states, parameters=parameters)
    size = sum(p.numel() for p in parameters)
    x, _ = conjugate_gradient(lambda v: product(v) + 1e-3 * v, vector(seed, size), iterations=10)
    step = largest_step(x, product(x), delta) * x
    with torch.no_grad():
        for parameter, part in zip(parameters, unflat(step, parameters), strict=True):
            parameter += part
        assert dist.kl(new, net(states)).mean().item() == pytest.approx(delta, rel=1e-2)


# The line search.


def search(improvements, kls, expected=1.0, **changes):
    """Searches along given measurements; returns the result and the fractions tried."""
    tried = []

    def trial(fraction):
        j = len(tried)
        tried.append(fraction)
        return Trial(torch.tensor(improvements[j]), torch.tensor(kls[j]))

    settings = {"kl_threshold": 0.01, "backtrack": 0.5, "max_steps": 4, "accept_ratio": 0.5}
    return line_search(trial, expected, **{**settings, **changes}), tried


GOOD, LOW = [1.0] * 9, [0.005] * 9


def test_the_full_step_is_accepted_first():
    result, tried = search([0.75], LOW)
    assert result == LineSearchResult(1.0, 0.75, pytest.approx(0.005), 1)
    assert tried == [1.0]
    assert all(isinstance(x, float) for x in result[:3])


def test_the_third_trial_is_accepted():
    result, tried = search([-1.0, 0.2, 0.2], LOW)
    assert tried == [1.0, 0.5, 0.25]
    assert result == LineSearchResult(0.25, pytest.approx(0.2), pytest.approx(0.005), 3)


def test_the_kl_binds():
    result, tried = search(GOOD, [0.02, 0.011, 0.0099, 0.0])
    assert result.fraction == 0.25 and result.kl == pytest.approx(0.0099) and len(tried) == 3
    # The constraint is KL <= delta: equality is inside.
    assert search(GOOD, [0.25], kl_threshold=0.25)[0].fraction == 1.0


def test_the_required_improvement_shrinks_with_the_fraction():
    # Needed: 0.5 * 4 * fraction, that is 2, 1, 0.5. The second trial falls short, just.
    result, _ = search([1.9, 0.99, 0.5], LOW, expected=4.0)
    assert (result.fraction, result.improvement) == (0.25, 0.5)
    # No trial of a wrong sign, even if no share of the expected gain is asked for.
    result, _ = search([0.0, -1.0, 1e-9], LOW, accept_ratio=0.0)
    assert result.fraction == 0.25
    # The ratio is to the model's gain at that fraction, not to its square.
    assert search([-1.0, 0.5], LOW, accept_ratio=1.0)[0].fraction == 0.5
    assert search([-1.0, 0.3, 0.2, 0.1, 0.05], LOW, accept_ratio=1.0)[0].fraction == 0.0


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_trials_that_are_not_finite_are_not_accepted(bad):
    assert search([bad, 1.0], LOW)[0].fraction == 0.5
    result, tried = search(GOOD, [bad, bad, 0.0])
    assert result.fraction == 0.25 and len(tried) == 3


def test_nothing_is_accepted_after_one_more_trial_than_steps():
    result, tried = search([-1.0] * 9, LOW, backtrack=0.8, max_steps=3)
    assert result == LineSearchResult(0.0, 0.0, 0.0, 4)
    assert tried == pytest.approx([1.0, 0.8, 0.64, 0.512])
    result, tried = search([-1.0] * 9, LOW, max_steps=0)
    assert result.fraction == 0.0 and tried == [1.0]


@pytest.mark.parametrize("expected", [0.0, -1.0, NAN, math.inf])
def test_nothing_is_tried_where_no_gain_is_expected(expected):
    result, tried = search(GOOD, LOW, expected=expected)
    assert result == LineSearchResult(0.0, 0.0, 0.0, 0) and tried == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kl_threshold", 0.0),
        ("backtrack", 0.0),
        ("backtrack", 1.0),
        ("max_steps", -1),
        ("accept_ratio", -0.1),
        ("accept_ratio", 1.1),
    ],
)
def test_the_line_search_rejects_bad_settings(name, value):
    with pytest.raises(ValueError, match=name):
        search(GOOD, LOW, **{name: value})
