"""Deterministic policies with noise, and squashed Gaussians: both within finite bounds."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rllib_hetero.functional import (
    POLICY_FAMILIES,
    Categorical,
    ClosedForm,
    Density,
    DiagGaussian,
    MultiCategorical,
    NoisyDeterministic,
    SquashedGaussian,
    encode,
    mask_inputs,
    message_size,
    nothing_allowed,
    reparameterized,
)

EPS = torch.finfo(torch.float32).eps
LOW, HIGH = (-1.0, 0.0), (3.0, 0.5)  # Middles 1 and 0.25, halves 2 and 0.25.
NOISY, SQUASHED = NoisyDeterministic(LOW, HIGH), SquashedGaussian(LOW, HIGH)
BOTH = [NOISY, SQUASHED]


def draw(dist, seed, batch=(6, 2), dtype=torch.float32):
    """Inputs and noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(*batch, dist.size, generator=generator, dtype=dtype)
    noise = dist.noise(np.random.default_rng(seed), batch)
    return inputs, torch.from_numpy(noise).to(dtype)


@pytest.mark.parametrize(("dist", "size"), [(NOISY, 3), (SQUASHED, 4)])
def test_sizes(dist, size):
    assert (dist.size, dist.noise_size, dist.choices, dist.action_shape) == (size, 2, (), (2,))
    assert dist.action_dtype == np.float32 and dist.within_space
    again = pickle.loads(pickle.dumps(dist))
    assert again == dist and hash(again) == hash(dist)
    assert dist != type(dist)(LOW, (3.0, 1.0))
    assert NOISY != SQUASHED
    assert message_size(dist) == 2
    actions = np.array([[0.5, 0.25]], np.float32)
    assert encode(dist, actions).tolist() == actions.tolist()
    with pytest.raises(ValueError, match="discrete"):
        nothing_allowed(np.ones((1, 2), bool), dist)
    with pytest.raises(ValueError, match="No policy gradient"):
        reparameterized(dist, torch.zeros(1, size), torch.from_numpy(actions), None, 1.0)


def test_which_of_them_have_a_density():
    assert not isinstance(NOISY, Density)
    assert isinstance(SQUASHED, Density) and not isinstance(SQUASHED, ClosedForm)
    assert isinstance(DiagGaussian(2), ClosedForm) and not DiagGaussian(2).within_space


# Hand-computed.


def test_noisy_deterministic_hand_computed():
    # Half ranges 2 and 0.25; a fifth of them is 0.4 and 0.05. The second row's noise is clipped.
    inputs = torch.tensor([[1.0, 0.1, 0.2], [2.9, 0.1, 0.2]])
    noise = torch.tensor([[1.5, -1.0], [1.0, -3.0]])
    expected = torch.tensor([[1.6, 0.05], [3.0, 0.0]])
    torch.testing.assert_close(NOISY.sample(inputs, noise), expected)
    np.testing.assert_allclose(NOISY.act(inputs.numpy(), noise.numpy()), expected, rtol=1e-6)
    assert torch.equal(NOISY.mode(inputs), inputs[:, :2])
    assert np.array_equal(NOISY.act(inputs.numpy(), None), inputs[:, :2].numpy())
    # A mean outside, as a module without tanh may have it.
    assert NOISY.mode(torch.tensor([[-7.0, 7.0, 0.0]])).tolist() == [[-1.0, 0.5]]


def test_perturbation_hand_computed():
    actions, noise = torch.tensor([[1.0, 0.45]]), torch.tensor([[-0.5, 0.5]])
    torch.testing.assert_close(NOISY.perturb(actions, noise), torch.tensor([[0.0, 0.5]]))


def test_squashed_gaussian_hand_computed():
    # u = mean + std * noise = (0.5 + 2 * 0.25, -0.3 + 1 * 0.3) = (1, 0).
    inputs = torch.tensor([[0.5, -0.3, math.log(2.0), 0.0]], dtype=torch.float64)
    noise = torch.tensor([[0.25, 0.3]], dtype=torch.float64)
    expected = torch.tensor([[1 + 2 * math.tanh(1.0), 0.25]], dtype=torch.float64)
    actions, log_prob = SQUASHED.sample_with_log_prob(inputs, noise)
    torch.testing.assert_close(actions, expected)
    torch.testing.assert_close(SQUASHED.sample(inputs, noise), expected)
    normal = -0.5 * (0.25**2 + 0.3**2) - math.log(2.0) - math.log(2 * math.pi)
    slope = math.log(2 * (1 - math.tanh(1.0) ** 2)) + math.log(0.25)
    by_hand = torch.tensor([normal - slope], dtype=torch.float64)
    torch.testing.assert_close(log_prob, by_hand)
    torch.testing.assert_close(SQUASHED.log_prob(inputs, expected), by_hand)
    greedy = torch.tensor([[1 + 2 * math.tanh(0.5), 0.25 - 0.25 * math.tanh(0.3)]])
    torch.testing.assert_close(SQUASHED.mode(inputs), greedy.double())


# The acting half.


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [(1,), (7,), (3, 4)])
@pytest.mark.parametrize("dist", BOTH, ids=["noisy", "squashed"])
def test_numpy_acts_as_torch_samples(dist, batch, seed):
    inputs, noise = draw(dist, seed, batch)
    before = inputs.clone(), noise.clone()
    for actual, expected in (
        (dist.act(inputs.numpy(), noise.numpy()), dist.sample(inputs, noise)),
        (dist.act(inputs.numpy(), None), dist.mode(inputs)),
    ):
        assert actual.shape == (*batch, 2) == tuple(expected.shape)
        assert actual.dtype == np.float32
        # Some ten roundings of numbers of the size of the bounds.
        np.testing.assert_allclose(actual, expected.numpy(), rtol=0, atol=10 * EPS * 3.0)
        actual += 1  # No view of the inputs.
    assert torch.equal(inputs, before[0]) and torch.equal(noise, before[1])


@pytest.mark.parametrize("low", [-0.4, 0.1, -0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", ["deterministic", "squashed"])
def test_actions_lie_within_the_space_to_the_last_bit(family, dtype, low):
    """Bounds that float32 cannot hold are rounded inwards."""
    space = Box(low, low + 0.7, (1,), dtype)
    dist = POLICY_FAMILIES[family](space)
    inputs, noise = draw(dist, 0, (4000,))
    inputs[:, 0] *= 10.0  # Most end at a bound, or where rounding may pass it.
    inputs[:, 1] = inputs[:, 1].abs() if family == "deterministic" else inputs[:, 1]
    low64, high64 = space.low.astype(np.float64), space.high.astype(np.float64)
    for actions in (
        dist.act(inputs.numpy(), noise.numpy()),
        dist.act(inputs.numpy(), None),
        dist.sample(inputs, noise).numpy(),
        dist.mode(inputs).numpy(),
    ):
        assert ((actions >= low64) & (actions <= high64)).all()
        # Both bounds are reached, but for the rounding of tanh's middle and half.
        assert actions.max() > dist.high[0] - 2 * EPS and actions.min() < dist.low[0] + 2 * EPS


def test_noise_is_that_of_the_scale_in_units_of_half_the_range():
    count = 40_000
    inputs = np.tile(np.float32([1.0, 0.25, 0.1]), (count, 1))
    actions = NOISY.act(inputs, NOISY.noise(np.random.default_rng(0), (count,)))
    std = np.array([0.2, 0.025])
    # Five standard errors: of a mean std/sqrt(n), of a standard deviation std/sqrt(2 n).
    assert (np.abs(actions.mean(0) - [1.0, 0.25]) < 5 * std / math.sqrt(count)).all()
    assert (np.abs(actions.std(0) - std) < 5 * std / math.sqrt(2 * count)).all()
    assert abs(np.corrcoef(actions.T)[0, 1]) < 5 / math.sqrt(count)
    # A scale for each sample.
    inputs[::2, 2] = 0.0
    actions = NOISY.act(inputs, NOISY.noise(np.random.default_rng(0), (count,)))
    assert np.array_equal(actions[::2], inputs[::2, :2]) and (actions[1::2] != 1.0).any()


def test_squashed_samples_have_the_frequencies_of_their_density():
    count, bins = 40_000, 20
    dist = SquashedGaussian((-1.0,), (3.0,))
    row = torch.tensor([[0.4, math.log(0.8)]], dtype=torch.float64)
    inputs = np.tile(row.numpy().astype(np.float32), (count, 1))
    actions = dist.act(inputs, dist.noise(np.random.default_rng(0), (count,)))[:, 0]
    edges = np.linspace(-1.0, 3.0, bins + 1)
    frequency = np.histogram(actions, edges)[0] / count
    for i in range(bins):
        p = _integral(dist, row, edges[i], edges[i + 1])
        assert abs(frequency[i] - p) < 5 * math.sqrt(p * (1 - p) / count) + 1 / count


# The density.


def _integral(dist, row, low, high, points=2000):
    """Integral of the density over [low, high] by the midpoint rule, in float64."""
    width = (high - low) / points
    middles = low + width * (torch.arange(points, dtype=torch.float64) + 0.5)
    density = dist.log_prob(row.expand(points, -1), middles[:, None]).exp()
    return float(density.sum() * width)


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-0.4, 0.4), (-3.0, -1.0), (10.0, 1000.0)]
)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.3), (-1.0, 0.5)])
def test_density_integrates_to_the_probability_of_u(low, high, mean, std):
    """Change of variables: P(a <= A) = P(u <= u(A)) = Phi((u(A) - mean) / std)."""
    dist = SquashedGaussian((low,), (high,))
    row = torch.tensor([[mean, math.log(std)]], dtype=torch.float64)
    edges = [low + (high - low) * x for x in (0.0, 0.2, 0.5, 0.8, 1.0)]
    for a, b in itertools.pairwise(edges):
        expected = _phi(b, low, high, mean, std) - _phi(a, low, high, mean, std)
        # The midpoint rule's error is below width^2 * max|f''| / 24; here under 1e-5.
        assert _integral(dist, row, a, b) == pytest.approx(expected, abs=1e-5)


def _phi(action, low, high, mean, std):
    y = 2 * (action - low) / (high - low) - 1
    u = math.inf * y if abs(y) >= 1 else math.atanh(y)
    return 0.5 * (1 + math.erf((u - mean) / std / math.sqrt(2)))


def test_joint_density_is_the_product_of_its_components():
    inputs, noise = draw(SQUASHED, 0, dtype=torch.float64)
    actions, log_prob = SQUASHED.sample_with_log_prob(inputs, noise)
    one, two = (SquashedGaussian(LOW[i : i + 1], HIGH[i : i + 1]) for i in (0, 1))
    parts = [
        dist.log_prob(inputs[..., i::2], actions[..., i : i + 1])
        for i, dist in enumerate([one, two])
    ]
    torch.testing.assert_close(SQUASHED.log_prob(inputs, actions), sum(parts))
    torch.testing.assert_close(log_prob, sum(parts))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0), (2.0, 7.0)])
def test_both_log_probs_agree_up_to_where_rounding_hides_the_action(low, high):
    """Against the exact formula in float64, for u from the middle to deep in saturation."""
    dist = SquashedGaussian((low,), (high,))
    u = torch.linspace(-12.0, 12.0, 97)[:, None]
    log_std = torch.full_like(u, math.log(3.0))
    inputs = torch.cat([torch.zeros_like(u), log_std], -1)
    noise = u / 3.0
    actions, log_prob = dist.sample_with_log_prob(inputs, noise)
    wide = noise.double() * 3.0
    slope = math.log((high - low) / 2) - 2 * torch.log(torch.cosh(wide))
    exact = -0.5 * (wide / 3) ** 2 - math.log(3.0) - 0.5 * math.log(2 * math.pi) - slope
    # Sums of ten numbers of size 24 at most.
    torch.testing.assert_close(log_prob.double(), exact[:, 0], rtol=0, atol=10 * 24 * EPS)
    # From the action alone: an error of EPS in y = tanh(u) is one of EPS * cosh(u)^2 in u, and
    # log pi changes by up to |u| / 9 + 2 for each unit of u.
    given = dist.log_prob(inputs, actions).double()
    size = max(abs(low), abs(high)) / ((high - low) / 2) + 1
    tolerance = (4 * EPS * size * torch.cosh(wide) ** 2 * (wide.abs() / 9 + 2))[:, 0] + 1e-4
    near = tolerance < 0.1
    assert near.sum() > 40
    assert ((given - exact[:, 0]).abs() <= tolerance)[near].all()
    assert torch.isfinite(given).all()
    # On the bounds themselves, and ever less likely towards them.
    ends = dist.log_prob(inputs[:2], torch.tensor([[low], [high]]))
    assert torch.isfinite(ends).all()


def test_gradients_are_finite_and_those_of_finite_differences():
    inputs, noise = draw(SQUASHED, 1, (3,), torch.float64)
    inputs.requires_grad_()

    def both(x):
        return SQUASHED.sample_with_log_prob(x, noise)

    assert torch.autograd.gradcheck(both, inputs)
    far = torch.tensor([[30.0, -30.0, 2.0, -20.0]], requires_grad=True)
    actions, log_prob = SQUASHED.sample_with_log_prob(far, torch.ones(1, 2))
    (grad,) = torch.autograd.grad(actions.sum() + log_prob.sum(), far)
    assert torch.isfinite(log_prob).all() and torch.isfinite(grad).all()


def test_deterministic_gradient_passes_the_noise_and_ends_at_the_bounds():
    inputs = torch.tensor([[1.0, 0.1, 0.2], [2.9, 0.1, 0.2]], requires_grad=True)
    noise = torch.tensor([[1.5, -1.0], [1.0, 1.0]])
    NOISY.sample(inputs, noise).sum().backward()
    # d/d scale = half * noise where not clipped: 2 * 1.5 - 0.25, and 0.25.
    torch.testing.assert_close(inputs.grad, torch.tensor([[1.0, 1.0, 2.75], [0.0, 1.0, 0.25]]))


def test_gradients_pass_after_acting_in_inference_mode():
    dist = NoisyDeterministic((-0.7,), (0.9,))  # Not met before.
    with torch.inference_mode():
        dist.mode(torch.zeros(1, 2))
    inputs = torch.zeros(1, 2, requires_grad=True)
    dist.sample(inputs, torch.ones(1, 1)).sum().backward()
    torch.testing.assert_close(inputs.grad, torch.tensor([[1.0, 0.8]]))


# The families.


@pytest.mark.parametrize(
    ("family", "cls"), [("deterministic", NoisyDeterministic), ("squashed", SquashedGaussian)]
)
def test_families(family, cls):
    make = POLICY_FAMILIES[family]
    assert make(Box(np.float32(LOW), np.float32(HIGH))) == cls(LOW, HIGH)
    assert make(Discrete(4)) == Categorical(4)
    assert make(MultiDiscrete([2, 3])) == MultiCategorical((2, 3))
    with pytest.raises(ValueError, match="No distribution for"):
        make(Discrete(3, start=1))


MOST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("family", ["deterministic", "squashed"])
@pytest.mark.parametrize(
    ("space", "match"),
    [
        (Box(-np.inf, np.inf, (2,), np.float32), "tanh needs bounds"),
        (Box(np.float32([0, 0]), np.float32([1, np.inf])), "tanh needs bounds"),
        (Box(-MOST, MOST, (1,), np.float32), "tanh needs bounds"),
        (Box(-1e300, 1e300, (1,), np.float64), "tanh needs bounds"),
        (Box(np.float32([0, 1]), np.float32([1, 1])), "without room"),
        (Box(1.0, 1.0 + 1e-12, (1,), np.float64), "without room"),
        (Box(-1.0, 1.0, (2, 2), np.float32), "shape"),
    ],
)
def test_boxes_that_cannot_be_mapped_to_are_refused(family, space, match):
    with pytest.raises(ValueError, match=match):
        POLICY_FAMILIES[family](space)


@pytest.mark.parametrize("dist", BOTH, ids=["noisy", "squashed"])
def test_wrong_shapes_are_rejected(dist):
    inputs, noise = draw(dist, 0)
    calls = [
        lambda: dist.mode(inputs[..., 1:]),
        lambda: dist.sample(inputs, noise[:1]),
        lambda: dist.sample(inputs, noise[..., 1:]),
        lambda: dist.act(inputs.numpy()[..., 1:], None),
    ]
    if isinstance(dist, Density):
        calls += [
            lambda: dist.log_prob(inputs, noise[..., 1:]),
            lambda: dist.sample_with_log_prob(inputs, noise[:1]),
        ]
    for call in calls:
        with pytest.raises(ValueError, match="must have shape"):
            call()


def test_masking_leaves_no_trace_on_logits_alone():
    """`mask_inputs` of a distribution that is all logits is `mask_logits_array`."""
    inputs = np.arange(5, dtype=np.float32)[None]
    mask = np.array([[True, False, True, True, False]])
    masked = mask_inputs(MultiCategorical((2, 3)), inputs, mask)
    lowest = np.finfo(np.float32).min
    assert masked.tolist() == [[0.0, lowest, 2.0, 3.0, lowest]]
    assert inputs[0, 1] == 1.0
