"""Generalised advantages and normalisation, against hand-computed arrays and slow loops."""

import numpy as np
import pytest
import torch

from rllib_hetero.functional import generalized_advantages, moments, normalize, standardize

SEEDS = range(5)


def slow_advantages(rewards, values, next_values, cut, gamma, lambda_):
    """The definition of GAE: the sum of discounted TD errors up to the cut, term by term."""
    length, columns = rewards.shape
    out = np.zeros((length, columns))
    for c in range(columns):
        for t in range(length):
            weight = 1.0
            for k in range(t, length):
                delta = rewards[k, c] + gamma * next_values[k, c] - values[k, c]
                out[t, c] += weight * delta
                weight *= gamma * lambda_
                if cut[k, c]:
                    break
    return out


def random_columns(seed, length=17, columns=4):
    """Columns of episodes that terminate, are truncated, or run through the fragment's end."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(length, columns))
    values = rng.normal(size=(length, columns))
    terminated = rng.random((length, columns)) < 0.15
    truncated = ~terminated & (rng.random((length, columns)) < 0.15)
    finals = rng.normal(size=(length, columns))
    next_values = np.concatenate([values[1:], rng.normal(size=(1, columns))])
    next_values = np.where(truncated, finals, next_values)
    next_values = np.where(terminated, 0.0, next_values)
    cut = terminated | truncated
    cut[-1] = True
    return rewards, values, next_values, cut


def tensors(*arrays):
    return [torch.from_numpy(np.asarray(a)) for a in arrays]


def test_advantages_hand_computed():
    # gamma = 1/2, lambda = 1/2: the trace decays by 1/4. Column 0 terminates after t=1, column 1
    # is truncated there with V(final) = 8; both run on into a second episode.
    rewards = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    values = torch.tensor([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0], [2.0, 2.0]])
    next_values = torch.tensor([[2.0, 2.0], [0.0, 8.0], [2.0, 2.0], [6.0, 0.0]])
    cut = torch.tensor([[False, False], [True, True], [False, False], [True, True]])
    # delta: [1, 1], [0, 4], [3, 3], [5, 2].
    expected = torch.tensor([[1.0, 2.0], [0.0, 4.0], [4.25, 3.5], [5.0, 2.0]])
    actual = generalized_advantages(rewards, values, next_values, cut, gamma=0.5, lambda_=0.5)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_advantages_equal_the_slow_sum(seed, lambda_):
    data = random_columns(seed)
    actual = generalized_advantages(*tensors(*data), gamma=0.97, lambda_=lambda_)
    expected = slow_advantages(*data, 0.97, lambda_)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_advantages_of_an_episode_ignore_its_neighbours_in_the_column(seed):
    rewards, values, next_values, cut = random_columns(seed)
    together = generalized_advantages(
        *tensors(rewards, values, next_values, cut), gamma=0.9, lambda_=0.8
    )
    for c in range(rewards.shape[1]):
        start = 0
        for end in np.flatnonzero(cut[:, c]) + 1:
            part = (slice(start, end), slice(c, c + 1))
            alone = generalized_advantages(
                *tensors(rewards[part], values[part], next_values[part], cut[part]),
                gamma=0.9,
                lambda_=0.8,
            )
            torch.testing.assert_close(together[part], alone)
            start = end


def test_lambda_one_gives_the_return_minus_the_value():
    rewards, values = torch.ones(5, 1), torch.full((5, 1), 3.0)
    next_values = torch.tensor([[3.0], [3.0], [3.0], [3.0], [10.0]])
    cut = torch.tensor([[False], [False], [False], [False], [True]])
    actual = generalized_advantages(rewards, values, next_values, cut, gamma=0.5, lambda_=1.0)
    # Returns from the back: 1 + 0.5 * 10 = 6, then 1 + 0.5 * G.
    returns = torch.tensor([[2.25], [2.5], [3.0], [4.0], [6.0]])
    torch.testing.assert_close(actual, returns - 3.0)


def test_advantages_are_float32_without_gradient_and_leave_the_inputs_alone():
    data = tensors(*random_columns(0))
    data[1].requires_grad_()
    before = [x.detach().clone() for x in data]
    actual = generalized_advantages(*data, gamma=0.9, lambda_=0.9)
    assert actual.dtype == torch.float32 and not actual.requires_grad
    for x, y in zip(data, before, strict=True):
        assert torch.equal(x.detach(), y)
    # Float32 inputs need no copy by conversion; they must not be written to either.
    data32 = [x.float() for x in before[:3]]
    copies = [x.clone() for x in data32]
    generalized_advantages(*data32, before[3], gamma=0.9, lambda_=0.9)
    for x, y in zip(data32, copies, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    "shapes",
    [((4, 2), (4, 2), (4, 2), (4, 1)), ((4, 2), (3, 2), (4, 2), (4, 2)), ((4,),) * 4],
)
def test_advantages_reject_wrong_shapes(shapes):
    *data, cut = [torch.zeros(s) for s in shapes]
    with pytest.raises(ValueError, match=r"Shapes|axes"):
        generalized_advantages(*data, cut.bool(), gamma=0.9, lambda_=0.9)


def test_advantages_reject_a_cut_that_is_not_bool():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="bool"):
        generalized_advantages(x, x, x, x, gamma=0.9, lambda_=0.9)


def test_moments_hand_computed():
    x, w = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 2.0, 0.5])
    assert moments(x, w).tolist() == [3.5, 7.5, 21.5]
    assert moments(x, w).dtype == torch.float64


def test_normalize_hand_computed():
    x, ones = torch.tensor([3.0, 5.0]), torch.ones(2)
    torch.testing.assert_close(normalize(x, ones, eps=1.0), torch.tensor([-0.5, 0.5]))
    torch.testing.assert_close(normalize(x, ones, eps=0.0), torch.tensor([-1.0, 1.0]))


def test_moments_and_normalize_do_not_read_entries_of_weight_zero():
    x = torch.tensor([[1.0, float("nan")], [3.0, float("inf")]])
    mask = torch.tensor([[True, False], [True, False]])
    assert moments(x, mask).tolist() == [2.0, 4.0, 10.0]
    torch.testing.assert_close(normalize(x, mask, eps=0.0)[:, 0], torch.tensor([-1.0, 1.0]))


def test_standardize_hand_computed():
    # Mean 2, std 2 of the whole data; eps = 2 doubles the divisor.
    sums = torch.tensor([4.0, 8.0, 32.0])
    actual = standardize(torch.tensor([2.0, 6.0, -2.0]), sums, 2.0)
    torch.testing.assert_close(actual, torch.tensor([0.0, 1.0, -1.0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_normalize_equals_numpy_on_the_repeated_data(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 7.0, size=(6, 5)).astype(np.float32)
    w = rng.integers(0, 4, size=(6, 5))
    repeated = np.repeat(x.ravel(), w.ravel()).astype(np.float64)
    expected = (x - repeated.mean()) / (repeated.std() + 1e-5)
    actual = normalize(torch.from_numpy(x), torch.from_numpy(w))
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_of_shards_standardize_like_the_whole(seed):
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.randn(30, generator=generator), torch.rand(30, generator=generator)
    shards = [slice(0, 3), slice(3, 20), slice(20, 30)]
    total = torch.stack([moments(x[s], w[s]) for s in shards]).sum(0)
    by_shard = torch.cat([standardize(x[s], total) for s in shards])
    torch.testing.assert_close(by_shard, normalize(x, w))


def test_normalize_is_stable_far_from_zero():
    x = 1e4 + torch.tensor([-1.0, 1.0]).repeat(1000)
    actual = normalize(x, torch.ones_like(x))
    torch.testing.assert_close(actual, torch.tensor([-1.0, 1.0]).repeat(1000), rtol=1e-4, atol=0)


def test_normalize_without_any_weight_or_spread_is_finite():
    x = torch.tensor([1.0, 2.0])
    assert normalize(x, torch.zeros(2)).tolist() == [0.0, 0.0]
    # Of equal numbers, rounding may leave a variance below zero.
    for constant in torch.linspace(0.1, 50.0, 40, dtype=torch.float64):
        for size in (3, 7, 11):
            actual = normalize(constant.expand(size), torch.full((size,), 0.3))
            assert actual.abs().max() < 1e-3


def test_moments_and_standardize_reject_wrong_shapes():
    with pytest.raises(ValueError, match="Shapes"):
        moments(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        standardize(torch.zeros(3), torch.zeros(2))
