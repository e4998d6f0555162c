"""Action masks: a masked distribution is the one over what is allowed, and stays finite."""

import itertools
import math

import numpy as np
import pytest
import torch

from rllib_hetero.functional import (
    Categorical,
    DiagGaussian,
    MultiCategorical,
    mask_logits,
    mask_logits_array,
    nothing_allowed,
)

SEEDS = range(4)
BATCH = 12
DISTS = [Categorical(5), MultiCategorical((2, 4, 3))]
LOWEST = torch.finfo(torch.float32).min
NAN = float("nan")


def slices(dist):
    sizes = [dist.n] if isinstance(dist, Categorical) else dist.nvec
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def draw(dist, seed, dtype=torch.float32, scale=1.0):
    """Logits of two policies, and masks that allow each component a random choice at least."""
    generator = torch.Generator().manual_seed(seed)
    old, new = scale * torch.randn(2, BATCH, dist.size, generator=generator, dtype=dtype)
    mask = torch.rand(BATCH, dist.size, generator=generator) < 0.4
    for part in slices(dist):
        width = part.stop - part.start
        kept = torch.randint(width, (BATCH,), generator=generator)
        mask[torch.arange(BATCH), part.start + kept] = True
    return old, new, mask


def slow_softmax(logits, mask):
    """Probabilities over the allowed choices alone, 0 elsewhere."""
    weights = [math.exp(x) if on else 0.0 for x, on in zip(logits, mask, strict=True)]
    return [w / sum(weights) for w in weights]


def test_mask_logits_hand_computed():
    inputs = torch.tensor([[1.0, -2.0, NAN]])
    mask = torch.tensor([[True, True, False]])
    assert mask_logits(inputs, mask).tolist() == [[1.0, -2.0, LOWEST]]
    assert mask_logits_array(inputs.numpy(), mask.numpy()).tolist() == [[1.0, -2.0, LOWEST]]
    all_on = torch.ones_like(mask)
    finite = inputs.nan_to_num(3.0)
    assert torch.equal(mask_logits(finite, all_on), finite)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(dtype):
    masked = mask_logits(torch.zeros(2, dtype=dtype), torch.tensor([True, False]))
    assert masked.dtype == dtype and masked[1].item() == torch.finfo(dtype).min


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_array_is_float32(dtype):
    masked = mask_logits_array(np.zeros(2, dtype), np.array([True, False]))
    assert masked.dtype == np.float32 and np.isfinite(masked).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_entropy_kl_and_log_probabilities_are_those_of_the_allowed_choices(dist, seed):
    old, new, mask = draw(dist, seed, torch.float64)
    entropies, divergences = [], []
    for x, y, on in zip(old.tolist(), new.tolist(), mask.tolist(), strict=True):
        entropy = divergence = 0.0
        for part in slices(dist):
            p, q = slow_softmax(x[part], on[part]), slow_softmax(y[part], on[part])
            entropy -= sum(a * math.log(a) for a in p if a > 0)
            divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        entropies.append(entropy)
        divergences.append(divergence)
    masked_old, masked_new = mask_logits(old, mask), mask_logits(new, mask)
    np.testing.assert_allclose(dist.entropy(masked_old), entropies, atol=1e-12)
    np.testing.assert_allclose(dist.kl(masked_old, masked_new), divergences, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_forbidden_actions_have_probability_zero_exactly_and_the_others_sum_to_one(dist, seed):
    old, _, mask = draw(dist, seed)
    sizes = [part.stop - part.start for part in slices(dist)]
    joint = torch.tensor(list(itertools.product(*map(range, sizes))))
    total = torch.zeros(BATCH)
    for action in joint:
        stored = action[0] if isinstance(dist, Categorical) else action
        actions = stored.expand(BATCH, *dist.action_shape)
        p = dist.log_prob(mask_logits(old, mask), actions).exp()
        starts = torch.tensor([part.start for part in slices(dist)])
        allowed = mask[:, starts + action].all(-1)
        assert (p[~allowed] == 0.0).all() and (p[allowed] > 0.0).all()
        total += p
    torch.testing.assert_close(total, torch.ones(BATCH))


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e37])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_gradients_are_finite_and_zero_for_forbidden_logits(dist, dtype, scale):
    old, new, mask = draw(dist, 0, dtype, scale)
    old, new = old.requires_grad_(), new.requires_grad_()
    masked_old, masked_new = mask_logits(old, mask), mask_logits(new, mask)
    actions = dist.mode(masked_new)
    for value, inputs in (
        (dist.log_prob(masked_new, actions), [new]),
        (dist.entropy(masked_new), [new]),
        (dist.kl(masked_old, masked_new), [old, new]),
        (dist.kl(masked_new.detach(), masked_new), [new]),
    ):
        assert torch.isfinite(value).all()
        for grad in torch.autograd.grad(value.sum(), inputs, retain_graph=True):
            assert torch.isfinite(grad).all() and (grad[~mask] == 0.0).all()
    if scale == 1.0:
        (grad,) = torch.autograd.grad(dist.entropy(masked_new).sum(), new)
        assert (grad[mask] != 0.0).any()


@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_second_derivatives_of_the_kl_are_finite(dist):
    _, new, mask = draw(dist, 1)
    new.requires_grad_()
    masked = mask_logits(new, mask)
    (grad,) = torch.autograd.grad(dist.kl(masked.detach(), masked).sum(), new, create_graph=True)
    (second,) = torch.autograd.grad((grad * torch.randn_like(grad)).sum(), new)
    assert torch.isfinite(second).all() and (second[~mask] == 0.0).all() and (second != 0.0).any()


@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_a_single_allowed_action_is_certain(dist):
    inputs = torch.randn(1, dist.size, requires_grad=True)
    mask = torch.zeros(1, dist.size, dtype=torch.bool)
    for part in slices(dist):
        mask[0, part.stop - 1] = True
    masked = mask_logits(inputs, mask)
    actions = dist.mode(masked)
    last = [part.stop - part.start - 1 for part in slices(dist)]
    assert actions.flatten().tolist() == last
    log_p, entropy = dist.log_prob(masked, actions), dist.entropy(masked)
    kl = dist.kl(masked.detach(), masked)
    assert log_p.tolist() == [0.0] and entropy.tolist() == [0.0] and kl.tolist() == [0.0]
    for value in (log_p, entropy, kl):
        (grad,) = torch.autograd.grad(value.sum(), inputs, retain_graph=True)
        assert (grad == 0.0).all()


# The sampling loop.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_acting_never_picks_a_forbidden_choice_and_keeps_the_frequencies(dist, seed):
    count = 100_000
    inputs, _, mask = draw(dist, seed, scale=2.0)
    row, on = inputs[0].numpy(), mask[0].numpy()
    row = np.where(on, row, 50.0).astype(np.float32)  # By far the likeliest, were it allowed.
    masked = mask_logits_array(np.tile(row, (count, 1)), np.tile(on, (count, 1)))
    noise = dist.noise(np.random.default_rng(seed), (count,))
    actions = dist.act(masked, noise).reshape(count, -1)
    assert (dist.act(masked[:1], None).reshape(-1) == _best(dist, row, on)).all()
    for j, part in enumerate(slices(dist)):
        frequencies = np.bincount(actions[:, j], minlength=part.stop - part.start) / count
        assert (frequencies[~on[part]] == 0.0).all()
        np.testing.assert_allclose(frequencies, slow_softmax(row[part], on[part]), atol=0.006)


def _best(dist, row, on):
    return [
        max(np.flatnonzero(on[part]), key=lambda a, part=part: row[part][a])
        for part in slices(dist)
    ]


def test_torch_and_numpy_mask_alike():
    inputs, _, mask = draw(DISTS[1], 0)
    by_array = mask_logits_array(inputs.numpy(), mask.numpy())
    assert np.array_equal(mask_logits(inputs, mask).numpy(), by_array)


def test_nothing_allowed_hand_computed():
    mask = np.array([[False, True, False], [False, False, False], [True, True, True]])
    assert nothing_allowed(mask, Categorical(3)).tolist() == [False, True, False]
    # Components of 2 and 1 choices: each needs one.
    mask = np.array([[True, False, True], [True, True, False], [False, False, True]])
    assert nothing_allowed(mask, MultiCategorical((2, 1))).tolist() == [False, True, True]
    assert nothing_allowed(mask, MultiCategorical((1, 2))).tolist() == [False, False, True]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("batch", [(), (4,), (3, 5)])
def test_nothing_allowed_equals_the_slow_loop(batch, seed):
    dist = MultiCategorical((1, 3, 2))
    mask = np.random.default_rng(seed).random((*batch, 6)) < 0.6
    actual = nothing_allowed(mask, dist)
    assert isinstance(actual, np.ndarray) and actual.dtype == np.bool_ and actual.shape == batch
    for index in np.ndindex(batch):
        row = mask[index].tolist()
        assert actual[index] == any(not any(row[part]) for part in slices(dist))


@pytest.mark.parametrize("dist", DISTS, ids=str)
def test_a_mask_that_allows_nothing_leaves_the_numbers_finite(dist):
    inputs = torch.randn(2, dist.size, requires_grad=True)
    masked = mask_logits(inputs, torch.zeros(2, dist.size, dtype=torch.bool))
    entropy = dist.entropy(masked)
    uniform = sum(math.log(part.stop - part.start) for part in slices(dist))
    torch.testing.assert_close(entropy, torch.full((2,), uniform))
    (grad,) = torch.autograd.grad(entropy.sum(), inputs)
    assert (grad == 0.0).all()


def test_masks_of_another_shape_or_dtype_are_rejected():
    x, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    for inputs, wrong in ((x, mask[0]), (x, mask[:, :1]), (x, mask.float()), (x.long(), mask)):
        with pytest.raises(ValueError, match="bool mask"):
            mask_logits(inputs, wrong)
        with pytest.raises(ValueError, match="bool mask"):
            mask_logits_array(inputs.numpy(), wrong.numpy())


def test_nothing_allowed_rejects_what_does_not_fit():
    mask = np.ones((2, 4), np.bool_)
    with pytest.raises(ValueError, match="bool mask"):
        nothing_allowed(mask, Categorical(3))
    with pytest.raises(ValueError, match="bool mask"):
        nothing_allowed(mask.astype(np.float32), Categorical(4))
    with pytest.raises(ValueError, match="discrete"):
        nothing_allowed(mask, DiagGaussian(2))
