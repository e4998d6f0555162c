"""Messages: their values, the path of their gradients and the noise behind discrete actions."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rllib_hetero.functional import (
    Categorical,
    DiagGaussian,
    MultiCategorical,
    encode,
    encode_tensor,
    mask_logits,
    message_size,
    posterior_gumbel,
    reparameterized,
)

DISTS = [DiagGaussian(1), DiagGaussian(3), Categorical(4), MultiCategorical((2, 4, 3))]
DISCRETE = DISTS[2:]
SHAPES = [(), (0,), (5,), (3, 1, 2)]
SEEDS = range(3)


def draw(dist, shape, seed=0, dtype=torch.float32):
    """Inputs, actions of the policy that they are of, and exponentials."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((*shape, dist.size), dtype=np.float32)
    actions = dist.act(inputs, dist.noise(rng, shape))
    exponentials = rng.standard_exponential((*shape, dist.noise_size), dtype=np.float32)
    return (
        torch.from_numpy(inputs).to(dtype),
        torch.from_numpy(actions),
        torch.from_numpy(exponentials).to(dtype),
    )


def jacobian(dist, inputs, actions, exponentials, temperature=1.0):
    """d message / d inputs of one sample: (w, size)."""
    return torch.autograd.functional.jacobian(
        lambda x: reparameterized(dist, x, actions, exponentials, temperature), inputs
    )


# Values.


def test_message_size():
    assert [message_size(dist) for dist in DISTS] == [1, 3, 4, 9]


def test_encode_hand_computed():
    box = np.array([[0.5, -7.0]], np.float32)
    assert encode(DiagGaussian(2), box).tolist() == [[0.5, -7.0]]
    assert encode(Categorical(3), np.array(2)).tolist() == [0, 0, 1]
    assert encode(Categorical(3), np.array([[0], [1]])).tolist() == [[[1, 0, 0]], [[0, 1, 0]]]
    multi = encode(MultiCategorical((2, 1, 3)), np.array([[1, 0, 0], [0, 0, 2]]))
    assert multi.tolist() == [[0, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 1]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_both_encodings_are_the_same(dist, shape):
    _, actions, _ = draw(dist, shape)
    actual, expected = encode_tensor(dist, actions), encode(dist, actions.numpy())
    assert actual.dtype == torch.float32
    assert actual.numpy().tolist() == expected.tolist()
    if dist.action_shape:
        with pytest.raises(ValueError, match="Actions must have shape"):
            encode_tensor(dist, torch.zeros(2, dist.action_shape[0] + 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_the_value_is_the_encoding_bit_by_bit(dist, shape):
    for seed in SEEDS:
        inputs, actions, exponentials = draw(dist, shape, seed)
        expected = encode(dist, actions.numpy())
        assert expected.dtype == np.float32 and expected.shape == (*shape, message_size(dist))
        for temperature in (0.05, 1.0, 7.3):
            actual = reparameterized(dist, inputs, actions, exponentials, temperature)
            assert actual.dtype == torch.float32
            assert actual.numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_the_dtype_is_that_of_the_inputs(dist, dtype):
    inputs, actions, exponentials = draw(dist, (50,))
    actual = reparameterized(dist, inputs.to(dtype), actions, exponentials, 0.7)
    assert actual.dtype == dtype
    assert torch.equal(actual, torch.from_numpy(encode(dist, actions.numpy())).to(dtype))


# Gradients.


def test_gaussian_path_hand_computed():
    # mean = (1, -1), std = (2, 0.5), a = (4, -1.5): eps = (1.5, -1). d a / d log std = std * eps.
    inputs = torch.tensor([1.0, -1.0, math.log(2.0), math.log(0.5)])
    actual = jacobian(DiagGaussian(2), inputs, torch.tensor([4.0, -1.5]), None)
    torch.testing.assert_close(actual, torch.tensor([[1.0, 0.0, 3.0, 0.0], [0.0, 1.0, 0.0, -0.5]]))


@pytest.mark.parametrize("seed", SEEDS)
def test_gaussian_path_is_the_derivative_of_sample_at_the_noise_of_the_current_parameters(seed):
    dist = DiagGaussian(3)
    inputs, _, _ = draw(dist, (), seed, torch.float64)
    noise = torch.from_numpy(dist.noise(np.random.default_rng(seed + 10), ())).double()
    expected = torch.autograd.functional.jacobian(lambda x: dist.sample(x, noise), inputs)
    actual = jacobian(dist, inputs, dist.sample(inputs, noise), None)
    torch.testing.assert_close(actual, expected)


def test_two_choices_hand_computed():
    # Equal logits, the first taken, E = (1/2, 1): v_0 = log 2 and v_1 = -log(1 / 0.5 + 1/2).
    # With d = v_1 - v_0 and s = sigmoid(d / T): d s / d logit_1 = s (1 - s) / T.
    d = -math.log(2.5) - math.log(2.0)
    s = 1 / (1 + math.exp(-d / 0.5))
    slope = s * (1 - s) / 0.5
    actual = jacobian(
        Categorical(2), torch.zeros(2), torch.tensor(0), torch.tensor([0.5, 1.0]), 0.5
    )
    torch.testing.assert_close(actual, slope * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_the_discrete_path_is_the_derivative_of_softmax_at_noise_held_fixed(temperature, seed):
    dist = Categorical(4)
    logits, action, e = draw(dist, (), seed, torch.float64)
    k, p = action.item(), logits.softmax(0)
    v = [-math.log(e[k] if j == k else e[j] / p[j] + e[k]) for j in range(4)]
    noise = torch.tensor(v, dtype=torch.float64) - p.log()
    expected = torch.autograd.functional.jacobian(
        lambda x: ((x + noise) / temperature).softmax(0), logits
    )
    torch.testing.assert_close(jacobian(dist, logits, action, e, temperature), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_components_of_a_multi_discrete_action_are_independent_messages(seed):
    dist = MultiCategorical((2, 4, 3))
    inputs, actions, exponentials = draw(dist, (), seed)
    start = 0
    expected = torch.zeros(dist.size, dist.size)
    for j, n in enumerate(dist.nvec):
        part = slice(start, start + n)
        expected[part, part] = jacobian(
            Categorical(n), inputs[part], actions[j], exponentials[part], 0.6
        )
        start += n
    actual = jacobian(dist, inputs, actions, exponentials, 0.6)
    torch.testing.assert_close(actual, expected)
    assert (actual.diagonal() != 0.0).all()


@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_samples_do_not_see_each_other(dist):
    inputs, actions, exponentials = draw(dist, (2, 3))
    inputs.requires_grad_()
    weights = torch.randn(message_size(dist), generator=torch.Generator().manual_seed(0))
    message = reparameterized(dist, inputs, actions, exponentials, 0.5)
    (grad,) = torch.autograd.grad((message * weights).sum(), inputs)
    for i in np.ndindex(2, 3):
        row = inputs[i].detach().requires_grad_()
        message = reparameterized(dist, row, actions[i], exponentials[i], 0.5)
        (expected,) = torch.autograd.grad((message * weights).sum(), row)
        torch.testing.assert_close(grad[i], expected)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_an_offset_of_the_logits_changes_nothing(offset):
    dist = Categorical(4)
    logits, action, e = draw(dist, (), 0, torch.float64)
    actual = jacobian(dist, logits + offset, action, e)
    torch.testing.assert_close(actual, jacobian(dist, logits, action, e))


# Edges: masks, temperatures, draws of exactly 0.


@pytest.mark.parametrize("lowest", [float("-inf"), torch.finfo(torch.float32).min])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("dist", DISCRETE, ids=str)
def test_masked_choices_get_no_gradient_and_others_that_of_the_choices_left(
    dist, temperature, lowest
):
    inputs, _, exponentials = draw(dist, (30,))
    forbidden = torch.zeros(dist.size, dtype=torch.bool)
    forbidden[-2] = True  # One choice of the last component.
    exponentials[0, -2] = 0.0  # 0 / 0 at the masked choice, were it divided.
    inputs = inputs.masked_fill(forbidden, lowest).requires_grad_()
    actions = dist.mode(inputs)
    message = reparameterized(dist, inputs, actions, exponentials, temperature)
    assert np.array_equal(message.detach().numpy(), encode(dist, actions.numpy()))
    weights = torch.arange(1.0, dist.size + 1)
    (grad,) = torch.autograd.grad((message * weights).sum(), inputs)
    assert torch.isfinite(grad).all() and (grad[:, forbidden] == 0.0).all()

    nvec = [dist.n] if isinstance(dist, Categorical) else list(dist.nvec)
    fewer = MultiCategorical((*nvec[:-1], nvec[-1] - 1))
    left = inputs[:, ~forbidden].detach().requires_grad_()
    message = reparameterized(
        fewer, left, fewer.mode(left), exponentials[:, ~forbidden], temperature
    )
    (expected,) = torch.autograd.grad((message * weights[~forbidden]).sum(), left)
    torch.testing.assert_close(grad[:, ~forbidden], expected)
    if temperature == 1.0:
        assert (grad[:, -1] != 0.0).any()


@pytest.mark.parametrize("dist", DISCRETE, ids=str)
def test_rows_of_no_meaning_stay_finite(dist):
    """Padding and idle agents: everything masked, or an action that the mask forbids."""
    inputs, actions, exponentials = draw(dist, (30,))
    inputs.requires_grad_()
    nothing = torch.zeros_like(inputs, dtype=torch.bool)
    taken = torch.from_numpy(encode(dist, actions.numpy())).bool()
    weights = torch.arange(1.0, dist.size + 1)
    for mask, masked in (
        (nothing, mask_logits(inputs, nothing)),
        (~taken, mask_logits(inputs, ~taken)),
        (~taken, inputs.masked_fill(taken, float("-inf"))),
    ):
        message = reparameterized(dist, masked, actions, exponentials, 0.1)
        assert np.array_equal(message.detach().numpy(), encode(dist, actions.numpy()))
        (grad,) = torch.autograd.grad((message * weights).sum(), inputs)
        assert torch.isfinite(grad).all() and (grad[~mask] == 0.0).all()


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("dist", DISCRETE, ids=str)
def test_a_small_temperature_and_far_logits_stay_finite(dist, scale):
    inputs, actions, exponentials = draw(dist, (500,))
    exponentials[:100] = 0.0
    exponentials[100:200, 0] = 0.0
    inputs = (scale * inputs).requires_grad_()
    message = reparameterized(dist, inputs, actions, exponentials, 0.05)
    assert np.array_equal(message.detach().numpy(), encode(dist, actions.numpy()))
    (grad,) = torch.autograd.grad((message * torch.arange(dist.size)).sum(), inputs)
    assert torch.isfinite(grad).all() and (grad != 0.0).any()


# The noise given the action.


def test_posterior_gumbel_hand_computed():
    log_probs = torch.tensor([0.2, 0.5, 0.3]).log()
    noise = posterior_gumbel(log_probs, torch.tensor(1), torch.tensor([3.0, 2.0, 0.6]))
    # v = (-log(3 / 0.2 + 2), -log 2, -log(0.6 / 0.3 + 2)).
    expected = -torch.tensor([17.0, 2.0, 4.0]).log() - log_probs
    torch.testing.assert_close(noise, expected)


def kolmogorov_smirnov(x):
    """sqrt(n) times the largest distance to the standard Gumbel's exp(-exp(-x))."""
    cdf = np.exp(-np.exp(-np.sort(x)))
    steps = np.arange(len(x) + 1) / len(x)
    return math.sqrt(len(x)) * max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1]))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("p", [(0.5, 0.5), (0.9, 0.07, 0.03), (0.1, 0.2, 0.3, 0.4)])
def test_for_an_action_from_the_policy_the_noise_is_fresh_gumbel_noise(p, seed):
    n, count = len(p), 200_000
    rng = np.random.default_rng(seed)
    k = rng.choice(n, size=count, p=p)
    log_p = torch.tensor(p, dtype=torch.float64).log().expand(count, n)
    e = torch.from_numpy(rng.standard_exponential((count, n)))
    noise = posterior_gumbel(log_p, torch.from_numpy(k), e)
    assert not noise.requires_grad
    assert torch.equal((log_p + noise).argmax(-1), torch.from_numpy(k))

    g = noise.numpy()
    # 1.95 is passed with probability 1 in 1000; some 70 statistics are looked at.
    assert all(kolmogorov_smirnov(g[:, j]) < 2.2 for j in range(n))
    # Independence: the maximum of any shifted noise is Gumbel again, at the shifts' logsumexp;
    # and products of the uniform ranks have the mean 1/4.
    for shift in rng.normal(size=(4, n)):
        peak = (g + shift).max(1) - np.log(np.exp(shift).sum())
        assert kolmogorov_smirnov(peak) < 2.2
    u = np.exp(-np.exp(-g))
    for i in range(n):
        for j in range(i):
            product = (u[:, i] - 0.5) * (u[:, j] - 0.5)
            assert abs(product.mean()) < 4 * product.std() / math.sqrt(count)


def test_the_noise_of_one_action_is_biased_to_it():
    """What the posterior is for: plain Gumbel noise would pick another action as often."""
    count = 20_000
    e = torch.from_numpy(np.random.default_rng(0).standard_exponential((count, 3)))
    log_p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log().expand(count, 3)
    noise = posterior_gumbel(log_p, torch.full((count,), 2), e)
    # v_2 is standard Gumbel, so the noise of choice 2 has the mean 0.5772 - log p_2.
    assert noise[:, 2].mean().item() == pytest.approx(0.5772 - math.log(0.1), abs=0.05)


# Errors.


def test_actions_of_another_shape_are_rejected():
    with pytest.raises(ValueError, match="Actions"):
        encode(DiagGaussian(2), np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="Actions"):
        encode(MultiCategorical((2, 3)), np.zeros(3, np.int64))


@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_reparameterized_rejects_what_does_not_fit(dist):
    inputs, actions, exponentials = draw(dist, (4,))
    with pytest.raises(ValueError, match="Inputs"):
        reparameterized(dist, inputs[:, :-1], actions, exponentials, 1.0)
    for wrong in (actions[:3], actions[:1], actions.unsqueeze(-1), actions[0]):
        with pytest.raises(ValueError, match="Actions"):
            reparameterized(dist, inputs, wrong, exponentials, 1.0)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            reparameterized(dist, inputs, actions, exponentials, temperature)


@pytest.mark.parametrize("dist", DISCRETE, ids=str)
def test_discrete_actions_need_exponentials_of_their_shape(dist):
    inputs, actions, exponentials = draw(dist, (4,))
    for wrong in (None, exponentials[:1], exponentials[:, :-1], exponentials.unsqueeze(0)):
        with pytest.raises(ValueError, match="Exponentials"):
            reparameterized(dist, inputs, actions, wrong, 1.0)


def test_posterior_gumbel_rejects_what_does_not_fit():
    log_probs, e, k = torch.zeros(4, 3), torch.ones(4, 3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="Shapes"):
        posterior_gumbel(log_probs, k, e[:1])
    with pytest.raises(ValueError, match="Actions"):
        posterior_gumbel(log_probs, k[:, None], e)


def test_only_gaussians_and_choices_are_reparameterised():
    dist = SimpleNamespace(size=4, action_shape=(2,), choices=())
    x = torch.zeros(4)
    with pytest.raises(ValueError, match="No policy gradient"):
        reparameterized(dist, x, x[:2], x, 1.0)
