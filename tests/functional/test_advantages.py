"""Generalised advantages and normalisation, against hand-computed arrays and slow loops."""

import numpy as np
import pytest
import torch

from rllib_hetero.functional import fold, generalized_advantages, moments, standardize

SEEDS = range(5)


def slow_preopc(rewards, values, next_values, cut, ratios, gamma, lambda_):
    """A2PO's equation, literally: for each k, the product over j = 1..k is made anew."""
    length, columns = rewards.shape
    out = np.zeros((length, columns))
    for c in range(columns):
        deltas = [rewards[t, c] + gamma * next_values[t, c] - values[t, c] for t in range(length)]
        for t in range(length):
            steps_left = int(np.argmax(np.append(cut[t:-1, c], True)))  # Of t's own episode.
            out[t, c] = deltas[t]
            for k in range(1, steps_left + 1):
                product = 1.0
                for j in range(1, k + 1):
                    product *= lambda_ * min(1.0, ratios[t + j, c])
                out[t, c] += gamma**k * product * deltas[t + k]
    return out


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


def by_own_moments(x, weights, eps=1e-5):
    return standardize(x, moments(x, weights), eps)


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


# Off-policy correction for the agents updated before.


def random_ratios(seed, shape):
    return np.exp(0.7 * np.random.default_rng(seed + 1000).normal(size=shape))


def test_corrected_advantages_hand_computed():
    # gamma = lambda = 1/2; every delta is 1 (V = 0, r = 1). Column 1 is cut after t=1.
    ones, zeros = torch.ones(4, 2), torch.zeros(4, 2)
    cut = torch.tensor([[False, False], [False, True], [False, False], [True, True]])
    ratios = torch.tensor([[9.0, 9.0], [0.5, 3.0], [4.0, 0.0], [0.25, 0.5]])
    actual = generalized_advantages(ones, zeros, zeros, cut, gamma=0.5, lambda_=0.5, ratios=ratios)
    # From the back. Column 0: 1, 1 + 1/4 * 1/4, 1 + 1/4 * 1 * 17/16, 1 + 1/4 * 1/2 * 81/64.
    # Column 1: 1, 1 + 1/4 * 1/2; then 1 (cut), 1 + 1/4 * 1.
    expected = torch.tensor([[593 / 512, 1.25], [81 / 64, 1.0], [17 / 16, 1.125], [1.0, 1.0]])
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lambda_", [0.0, 0.9, 1.0])
def test_corrected_advantages_equal_the_slow_double_sum(seed, lambda_):
    data = random_columns(seed)
    ratios = random_ratios(seed, data[0].shape)
    assert (ratios < 0.9).any() and (ratios > 1.1).any() and data[3][:-1].any()
    actual = generalized_advantages(
        *tensors(*data), gamma=0.97, lambda_=lambda_, ratios=torch.from_numpy(ratios)
    )
    expected = slow_preopc(*data, ratios, 0.97, lambda_)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_ratios_of_one_or_more_change_no_bit(seed):
    data = tensors(*random_columns(seed))
    plain = generalized_advantages(*data, gamma=0.97, lambda_=0.95)
    for ratios in (torch.ones(17, 4), 1.0 + torch.rand(17, 4), torch.full((17, 4), torch.inf)):
        actual = generalized_advantages(*data, gamma=0.97, lambda_=0.95, ratios=ratios)
        assert torch.equal(actual, plain)


def test_lambda_enters_once():
    data = random_columns(0)
    ratios = random_ratios(0, data[0].shape)
    actual = generalized_advantages(
        *tensors(*data), gamma=0.97, lambda_=0.8, ratios=torch.from_numpy(ratios)
    )
    twice = slow_preopc(*data, ratios, 0.97, 0.8**2)
    assert np.abs(actual.numpy() - twice).max() > 0.1


def test_each_trace_factor_is_clipped_and_not_their_product():
    # Ratios 1/2, 2: the product of the clipped factors is 1/2; their clipped product is 1.
    ones, zeros = torch.ones(3, 1), torch.zeros(3, 1)
    cut = torch.tensor([[False], [False], [True]])
    ratios = torch.tensor([[1.0], [0.5], [2.0]])
    actual = generalized_advantages(ones, zeros, zeros, cut, gamma=1.0, lambda_=1.0, ratios=ratios)
    assert actual.flatten().tolist() == [2.0, 2.0, 1.0]


def test_ratios_of_first_steps_are_not_read():
    data = tensors(*random_columns(1))
    cut = data[3]
    ratios = torch.from_numpy(random_ratios(1, cut.shape))
    first = torch.cat([torch.ones(1, cut.shape[1], dtype=torch.bool), cut[:-1]])
    settings = {"gamma": 0.97, "lambda_": 0.95}
    expected = generalized_advantages(*data, ratios=ratios, **settings)
    holes = ratios.masked_fill(first, torch.nan)
    assert torch.equal(generalized_advantages(*data, ratios=holes, **settings), expected)
    # Every other one is.
    halved = generalized_advantages(*data, ratios=ratios.clamp(max=1.0) / 2, **settings)
    assert ((halved != expected)[:-1] == ~cut[:-1]).all()


def test_a_folded_correction_is_what_the_ratios_are():
    old, new = torch.tensor([[0.5], [0.5]]).log(), torch.tensor([[0.9], [0.2]]).log()
    ones, zeros = torch.ones(2, 1), torch.zeros(2, 1)
    cut = torch.tensor([[False], [True]])
    ratios = fold(ones, new, old, torch.ones(2, 1, dtype=torch.bool))
    actual = generalized_advantages(ones, zeros, zeros, cut, gamma=1.0, lambda_=1.0, ratios=ratios)
    torch.testing.assert_close(actual, torch.tensor([[1.4], [1.0]]))


# Several value functions.


@pytest.mark.parametrize("corrected", [False, True])
def test_several_value_functions_equal_one_call_each(corrected):
    rewards, _, _, cut = tensors(*random_columns(0))
    each = [tensors(*random_columns(seed))[1:3] for seed in range(3)]
    values, next_values = (torch.stack(x, dim=-1) for x in zip(*each, strict=True))
    ratios = torch.from_numpy(random_ratios(0, cut.shape)) if corrected else None
    settings = {"gamma": 0.97, "lambda_": 0.9, "ratios": ratios}
    together = generalized_advantages(rewards, values, next_values, cut, **settings)
    assert together.shape == (17, 4, 3)
    for k, (value, next_value) in enumerate(each):
        alone = generalized_advantages(rewards, value, next_value, cut, **settings)
        assert torch.equal(together[..., k], alone)


def test_as_many_value_functions_as_columns_are_not_mixed_up():
    rewards, cut = torch.tensor([[1.0, 10.0]]), torch.ones(1, 2, dtype=torch.bool)
    values = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    actual = generalized_advantages(
        rewards, values, torch.zeros_like(values), cut, gamma=1.0, lambda_=1.0
    )
    assert actual.tolist() == [[[1.0, 0.0], [8.0, 7.0]]]


def test_ratios_and_trailing_axes_of_wrong_shape_are_rejected():
    x, cut = torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.bool)
    settings = {"gamma": 0.9, "lambda_": 0.9}
    for ratios in (torch.ones(4), torch.ones(4, 1), torch.ones(4, 2, 1), torch.ones(3, 2)):
        with pytest.raises(ValueError, match="Shapes"):
            generalized_advantages(x, x, x, cut, ratios=ratios, **settings)
    for values, next_values in (
        (torch.zeros(4, 2, 3), x),
        (torch.zeros(4, 3, 2), torch.zeros(4, 3, 2)),
        (torch.zeros(2, 4, 2), torch.zeros(2, 4, 2)),
        (torch.zeros(4, 2, 1, 1), torch.zeros(4, 2, 1, 1)),
        (torch.zeros(4), torch.zeros(4)),
    ):
        with pytest.raises(ValueError, match="Shapes"):
            generalized_advantages(x, values, next_values, cut, **settings)
    y = torch.zeros(4, 2, 3)
    with pytest.raises(ValueError, match="axes"):
        generalized_advantages(y, y, y, y.bool(), **settings)


# Normalisation.


def test_moments_hand_computed():
    x, w = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 2.0, 0.5])
    assert moments(x, w).tolist() == [3.5, 7.5, 21.5]
    assert moments(x, w).dtype == torch.float64


def test_standardize_by_own_moments_hand_computed():
    x, ones = torch.tensor([3.0, 5.0]), torch.ones(2)
    torch.testing.assert_close(by_own_moments(x, ones, eps=1.0), torch.tensor([-0.5, 0.5]))
    torch.testing.assert_close(by_own_moments(x, ones, eps=0.0), torch.tensor([-1.0, 1.0]))


def test_moments_and_standardize_do_not_read_entries_of_weight_zero():
    x = torch.tensor([[1.0, float("nan")], [3.0, float("inf")]])
    mask = torch.tensor([[True, False], [True, False]])
    assert moments(x, mask).tolist() == [2.0, 4.0, 10.0]
    torch.testing.assert_close(by_own_moments(x, mask, eps=0.0)[:, 0], torch.tensor([-1.0, 1.0]))


def test_standardize_hand_computed():
    # Mean 2, std 2 of the whole data; eps = 2 doubles the divisor.
    sums = torch.tensor([4.0, 8.0, 32.0])
    actual = standardize(torch.tensor([2.0, 6.0, -2.0]), sums, 2.0)
    torch.testing.assert_close(actual, torch.tensor([0.0, 1.0, -1.0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_standardize_equals_numpy_on_the_repeated_data(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 7.0, size=(6, 5)).astype(np.float32)
    w = rng.integers(0, 4, size=(6, 5))
    repeated = np.repeat(x.ravel(), w.ravel()).astype(np.float64)
    expected = (x - repeated.mean()) / (repeated.std() + 1e-5)
    actual = by_own_moments(torch.from_numpy(x), torch.from_numpy(w))
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_of_shards_standardize_like_the_whole(seed):
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.randn(30, generator=generator), torch.rand(30, generator=generator)
    shards = [slice(0, 3), slice(3, 20), slice(20, 30)]
    total = torch.stack([moments(x[s], w[s]) for s in shards]).sum(0)
    by_shard = torch.cat([standardize(x[s], total) for s in shards])
    torch.testing.assert_close(by_shard, by_own_moments(x, w))


def test_standardize_is_stable_far_from_zero():
    x = 1e4 + torch.tensor([-1.0, 1.0]).repeat(1000)
    actual = by_own_moments(x, torch.ones_like(x))
    torch.testing.assert_close(actual, torch.tensor([-1.0, 1.0]).repeat(1000), rtol=1e-4, atol=0)


def test_standardize_without_any_weight_or_spread_is_finite():
    x = torch.tensor([1.0, 2.0])
    assert by_own_moments(x, torch.zeros(2)).tolist() == [0.0, 0.0]
    # Of equal numbers, rounding may leave a variance below zero.
    for constant in torch.linspace(0.1, 50.0, 40, dtype=torch.float64):
        for size in (3, 7, 11):
            actual = by_own_moments(constant.expand(size), torch.full((size,), 0.3))
            assert actual.abs().max() < 1e-3


def test_moments_and_standardize_reject_wrong_shapes():
    with pytest.raises(ValueError, match="Shapes"):
        moments(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        standardize(torch.zeros(3), torch.zeros(2))
