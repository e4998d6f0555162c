"""Distributions: closed forms by hand, RLlib's own classes, and sampling frequencies."""

import itertools
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)

from rllib_hetero.functional import (
    Categorical,
    DiagGaussian,
    MultiCategorical,
    distribution_for,
)

SEEDS = range(4)
BOX = Box(-1.0, 1.0, (3,), np.float32)
DISCRETE = Discrete(5)
MULTI = MultiDiscrete([2, 4, 3])
EVEN = MultiDiscrete([3, 3])
SPACES = [BOX, DISCRETE, MULTI, EVEN]


def rllib_distribution(space: gym.Space, inputs: torch.Tensor):
    if isinstance(space, Box):
        return TorchDiagGaussian.from_logits(inputs)
    if isinstance(space, Discrete):
        return TorchCategorical.from_logits(inputs)
    return TorchMultiCategorical.from_logits(inputs, input_lens=space.nvec.tolist())


def draw(space, seed, batch=(6, 2)):
    """Inputs of two policies, and actions of the space in the stored layout."""
    dist = distribution_for(space)
    generator = torch.Generator().manual_seed(seed)
    old, new = torch.randn(2, *batch, dist.size, generator=generator)
    space.seed(seed)
    flat = [space.sample() for _ in range(math.prod(batch))]
    actions = np.stack(flat).reshape(*batch, *dist.action_shape).astype(dist.action_dtype)
    return dist, old, new, torch.from_numpy(actions)


@pytest.mark.parametrize(
    ("space", "expected", "size", "noise_size", "shape", "dtype"),
    [
        (BOX, DiagGaussian(3), 6, 3, (3,), np.float32),
        (Box(-1, 1, (2,), np.float64), DiagGaussian(2), 4, 2, (2,), np.float32),
        (DISCRETE, Categorical(5), 5, 5, (), np.int64),
        (MULTI, MultiCategorical((2, 4, 3)), 9, 9, (3,), np.int64),
    ],
)
def test_factory_and_sizes(space, expected, size, noise_size, shape, dtype):
    dist = distribution_for(space)
    assert dist == expected and hash(dist) == hash(expected)
    assert (dist.size, dist.noise_size, dist.action_shape) == (size, noise_size, shape)
    assert dist.action_dtype == dtype
    assert pickle.loads(pickle.dumps(dist)) == dist


@pytest.mark.parametrize(
    "space",
    [
        Box(-1.0, 1.0, (2, 2), np.float32),
        Box(0, 5, (2,), np.int64),
        Discrete(3, start=1),
        MultiDiscrete([[2, 2], [2, 2]]),
        MultiDiscrete([2, 2], start=[0, 1]),
        Dict({"a": Discrete(2)}),
    ],
)
def test_factory_rejects_other_spaces(space):
    with pytest.raises(ValueError, match="No distribution for"):
        distribution_for(space)


# Closed forms by hand.


def test_diag_gaussian_hand_computed():
    dist = DiagGaussian(2)
    log2 = math.log(2.0)
    old = torch.tensor([[0.0, 1.0, 0.0, log2]])
    new = torch.tensor([[1.0, 1.0, log2, 0.0]])
    half_log_2pi = 0.5 * math.log(2 * math.pi)
    # z = (1, -1): half squares 1/2 + 1/2, log std 0 + log 2.
    log_prob = -(1.0 + log2 + 2 * half_log_2pi)
    actions = torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(dist.log_prob(old, actions), torch.tensor([log_prob]))
    torch.testing.assert_close(dist.entropy(old), torch.tensor([1.0 + log2 + 2 * half_log_2pi]))
    # log(s'/s) + (s^2 + d^2) / (2 s'^2) - 1/2: log 2 + 2/8 - 1/2, then -log 2 + 4/2 - 1/2.
    torch.testing.assert_close(dist.kl(old, new), torch.tensor([-0.25 + 1.5]))


def test_categorical_hand_computed():
    dist = Categorical(3)
    old = torch.tensor([[0.5, 0.25, 0.25]]).log() + 3.0  # Logits of any offset.
    new = torch.tensor([[0.25, 0.5, 0.25]]).log() - 1.0
    log2 = math.log(2.0)
    torch.testing.assert_close(dist.log_prob(old, torch.tensor([1])), torch.tensor([-2 * log2]))
    torch.testing.assert_close(dist.entropy(old), torch.tensor([1.5 * log2]))
    torch.testing.assert_close(dist.kl(old, new), torch.tensor([0.25 * log2]))


def test_multi_categorical_sums_over_components():
    dist = MultiCategorical((2, 3))
    inputs = torch.tensor([[0.5, 0.5, 0.5, 0.25, 0.25]]).log()
    new = torch.tensor([[0.5, 0.5, 0.25, 0.5, 0.25]]).log()
    log2 = math.log(2.0)
    actions = torch.tensor([[1, 2]])
    torch.testing.assert_close(dist.log_prob(inputs, actions), torch.tensor([-3 * log2]))
    torch.testing.assert_close(dist.entropy(inputs), torch.tensor([2.5 * log2]))
    torch.testing.assert_close(dist.kl(inputs, new), torch.tensor([0.25 * log2]))


@pytest.mark.parametrize("seed", SEEDS)
def test_multi_categorical_is_a_distribution_over_joint_actions(seed):
    dist, old, new, _ = draw(MULTI, seed, batch=(1,))
    joint = torch.tensor(list(itertools.product(range(2), range(4), range(3))))
    log_p = dist.log_prob(old.expand(24, -1), joint)
    log_q = dist.log_prob(new.expand(24, -1), joint)
    p = log_p.exp()
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    torch.testing.assert_close(dist.entropy(old)[0], -(p * log_p).sum())
    torch.testing.assert_close(dist.kl(old, new)[0], (p * (log_p - log_q)).sum())


# RLlib's distributions on the same inputs.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_agreement_with_rllib(space, seed):
    dist, old, new, actions = draw(space, seed)
    theirs, theirs_new = rllib_distribution(space, old), rllib_distribution(space, new)
    for actual, expected in (
        (dist.log_prob(old, actions), theirs.logp(actions)),
        (dist.entropy(old), theirs.entropy()),
        (dist.kl(old, new), theirs.kl(theirs_new)),
    ):
        assert actual.shape == (6, 2)
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_kl_is_zero_at_itself_with_a_zero_gradient_and_a_positive_hessian(space):
    dist, old, _, _ = draw(space, 0, batch=(1,))
    new = old.clone().requires_grad_()
    kl = dist.kl(old, new).sum()
    (grad,) = torch.autograd.grad(kl, new, create_graph=True)
    torch.testing.assert_close(kl, torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(grad, torch.zeros_like(grad), atol=1e-6, rtol=0)
    hessian = torch.autograd.functional.hessian(lambda x: dist.kl(old, x).sum(), old)
    eigenvalues = torch.linalg.eigvalsh(hessian.reshape(dist.size, dist.size))
    assert eigenvalues.min() > -1e-6 and eigenvalues.max() > 1e-2


def test_gaussian_kl_keeps_its_digits_for_small_steps():
    old = torch.tensor([[0.3, -0.7]])
    new = old + torch.tensor([[0.0, 1e-3]])
    expected = DiagGaussian(1).kl(old.double(), new.double())
    torch.testing.assert_close(DiagGaussian(1).kl(old, new).double(), expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("masked", [-math.inf, torch.finfo(torch.float32).min])
def test_actions_that_are_taken_out_leave_everything_finite(masked):
    dist = Categorical(3)
    inputs = torch.tensor([[0.0, math.log(3.0), masked]], requires_grad=True)
    two = torch.tensor([[0.0, math.log(3.0)]])
    entropy, kl = dist.entropy(inputs), dist.kl(inputs, inputs.detach() * 1.0)
    torch.testing.assert_close(entropy, Categorical(2).entropy(two))
    torch.testing.assert_close(kl, torch.zeros(1))
    (grad,) = torch.autograd.grad((entropy + kl).sum(), inputs)
    assert torch.isfinite(grad).all() and grad[0, 2] == 0.0
    rng = np.random.default_rng(0)
    rows = inputs.detach().expand(500, -1).numpy()
    assert dist.act(rows, dist.noise(rng, (500,))).max() == 1


# Acting.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("batch", [(1,), (7,), (3, 4)])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_numpy_acts_as_torch_samples(space, batch, seed):
    dist, inputs, _, _ = draw(space, seed, batch)
    noise = dist.noise(np.random.default_rng(seed), batch)
    assert noise.shape == (*batch, dist.noise_size) and noise.dtype == np.float32
    for actual, expected in (
        (dist.act(inputs.numpy(), noise), dist.sample(inputs, torch.from_numpy(noise))),
        (dist.act(inputs.numpy(), None), dist.mode(inputs)),
    ):
        assert isinstance(actual, np.ndarray)
        assert actual.shape == (*batch, *dist.action_shape) == tuple(expected.shape)
        assert actual.dtype == dist.action_dtype
        np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_acting_leaves_inputs_and_noise_alone(space):
    dist, inputs, _, _ = draw(space, 0)
    noise = dist.noise(np.random.default_rng(0), (6, 2))
    before = inputs.clone(), noise.copy()
    dist.act(inputs.numpy(), noise)
    action = dist.act(inputs.numpy(), None)
    action += 1  # The mode is no view of the inputs.
    assert torch.equal(inputs, before[0]) and np.array_equal(noise, before[1])


def test_modes_hand_computed():
    gaussian = torch.tensor([[1.0, -2.0, 9.0, 9.0]])
    assert DiagGaussian(2).mode(gaussian).tolist() == [[1.0, -2.0]]
    assert DiagGaussian(2).act(gaussian.numpy(), None).tolist() == [[1.0, -2.0]]
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0, 0.0]])
    assert Categorical(5).mode(logits).tolist() == [1]
    assert MultiCategorical((2, 3)).mode(logits).tolist() == [[1, 1]]
    assert MultiCategorical((3, 2)).act(logits.numpy(), None).tolist() == [[1, 0]]


def test_gaussian_acts_hand_computed():
    inputs = torch.tensor([[1.0, -2.0, 0.0, math.log(3.0)]])
    noise = torch.tensor([[2.0, -1.0]])
    torch.testing.assert_close(DiagGaussian(2).sample(inputs, noise), torch.tensor([[3.0, -5.0]]))


def test_gaussian_samples_have_the_mean_and_deviation_of_the_inputs():
    dist = DiagGaussian(2)
    inputs = np.tile(np.float32([1.0, -2.0, math.log(0.5), math.log(3.0)]), (100_000, 1))
    actions = dist.act(inputs, dist.noise(np.random.default_rng(0), (100_000,)))
    np.testing.assert_allclose(actions.mean(0), [1.0, -2.0], atol=0.03)
    np.testing.assert_allclose(actions.std(0), [0.5, 3.0], rtol=0.01)
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.02


@pytest.mark.parametrize("space", [DISCRETE, MULTI], ids=str)
def test_discrete_samples_have_the_frequencies_of_the_log_probabilities(space):
    count = 100_000
    dist, inputs, _, _ = draw(space, 3, batch=(1,))
    noise = dist.noise(np.random.default_rng(1), (count,))
    actions = dist.act(np.repeat(inputs.numpy(), count, 0), noise).reshape(count, -1)
    sizes = [space.n] if isinstance(space, Discrete) else space.nvec.tolist()
    for joint in itertools.product(*map(range, sizes)):
        frequency = (actions == joint).all(-1).mean()
        stored = torch.tensor([joint]).reshape(1, *dist.action_shape)
        assert frequency == pytest.approx(dist.log_prob(inputs, stored).exp().item(), abs=0.006)


def test_gumbel_noise_is_standard_and_finite():
    class ZeroDraws:
        """A generator whose exponential draws are all the smallest possible: 0."""

        def standard_exponential(self, shape, dtype):
            return np.zeros(shape, dtype)

    with np.errstate(all="raise"):
        assert np.isfinite(Categorical(3).noise(ZeroDraws(), (2,))).all()
    noise = Categorical(4).noise(np.random.default_rng(0), (50_000,))
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)  # Euler's constant.
    assert noise.std() == pytest.approx(math.pi / math.sqrt(6.0), rel=0.01)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_noise_is_reproducible(space):
    dist = distribution_for(space)
    one, two, three = (dist.noise(np.random.default_rng(s), (5,)) for s in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, three)


def test_gaussian_sample_is_differentiable():
    inputs = torch.zeros(1, 2, requires_grad=True)
    DiagGaussian(1).sample(inputs, torch.tensor([[2.0]])).sum().backward()
    assert inputs.grad is not None and inputs.grad.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_wrong_shapes_are_rejected(space):
    dist, old, _, actions = draw(space, 0)
    noise = torch.zeros(6, 2, dist.noise_size)
    for call in (
        lambda: dist.log_prob(old[..., 1:], actions),
        lambda: dist.log_prob(old, actions[:1]),
        lambda: dist.log_prob(old, actions[..., None]),
        lambda: dist.entropy(old[..., 1:]),
        lambda: dist.kl(old, old[:1]),
        lambda: dist.mode(old[..., 1:]),
        lambda: dist.sample(old, noise[:1]),
        lambda: dist.sample(old, noise[..., 1:]),
        lambda: dist.act(old.numpy()[..., 1:], None),
    ):
        with pytest.raises(ValueError, match="must have shape"):
            call()
