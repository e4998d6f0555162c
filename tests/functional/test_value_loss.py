"""The critic's loss and the explained variance, by hand and against slow loops."""

import numpy as np
import pytest
import torch

from rllib_hetero.functional import clipped_value_loss, error_moments, variance_ratio

SEEDS = range(5)


def explained_variance(values, targets, weights):
    return variance_ratio(error_moments(values, targets, weights))


def slow_loss(v, old, y, clip_param, delta):
    def huber(e):
        e = abs(e)
        return 0.5 * e * e if delta is None or e <= delta else delta * (e - 0.5 * delta)

    loss = huber(v - y)
    if clip_param is not None:
        clipped = old + min(max(v - old, -clip_param), clip_param)
        loss = max(loss, huber(clipped - y))
    return loss


def loss(values, old_values, targets, clip_param, huber_delta):
    data = (torch.as_tensor(x) for x in (values, old_values, targets))
    return clipped_value_loss(*data, clip_param=clip_param, huber_delta=huber_delta)


def test_squared_error_hand_computed():
    assert loss([1.0, 5.0], [0.0, 0.0], [3.0, 4.0], None, None).tolist() == [2.0, 0.5]


def test_huber_hand_computed():
    # Errors 1 (square), 2 (at delta) and -5 (linear: 2 * (5 - 1)).
    assert loss([1.0, 2.0, -5.0], [0.0] * 3, [0.0] * 3, None, 2.0).tolist() == [0.5, 2.0, 8.0]


def test_clipping_hand_computed():
    # Moved 1 towards the target 2, clip 0.5: the clipped value is the worse one, (1.5)^2 / 2.
    # Moved 1 away from it: the value itself is, 3^2 / 2.
    actual = loss([1.0, -1.0], [0.0, 0.0], [2.0, 2.0], 0.5, None)
    assert actual.tolist() == [1.125, 4.5]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clip_param", [None, 0.2, 3.0])
@pytest.mark.parametrize("delta", [None, 0.5, 10.0])
def test_loss_equals_the_slow_loop(seed, clip_param, delta):
    data = np.random.default_rng(seed).normal(0.0, 2.0, size=(3, 50))
    expected = [slow_loss(*row, clip_param, delta) for row in data.T.tolist()]
    np.testing.assert_allclose(loss(*data, clip_param, delta).numpy(), expected, rtol=1e-12)


def test_gradient_stops_where_the_value_has_left_the_band_towards_the_target():
    values = torch.tensor([1.0, -1.0, 0.1], requires_grad=True)
    loss(values, torch.zeros(3), torch.full((3,), 2.0), 0.5, None).sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.tensor([0.0, -3.0, -1.9]))


def test_loss_rejects_wrong_shapes_and_parameters():
    x = torch.zeros(3)
    with pytest.raises(ValueError, match="targets"):
        clipped_value_loss(x, x, torch.zeros(3, 1), clip_param=None, huber_delta=None)
    with pytest.raises(ValueError, match="clip_param"):
        clipped_value_loss(x, x, x, clip_param=0.0, huber_delta=None)
    with pytest.raises(ValueError, match="huber_delta"):
        clipped_value_loss(x, x, x, clip_param=None, huber_delta=-1.0)


def test_error_moments_hand_computed():
    values, targets = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([3.0, 1.0, 0.0])
    weights = torch.tensor([1.0, 2.0, 0.0])
    assert error_moments(values, targets, weights).tolist() == [3.0, 5.0, 11.0, 0.0, 6.0]


def test_explained_variance_hand_computed():
    targets = torch.tensor([0.0, 2.0])
    ones = torch.ones(2)
    assert explained_variance(targets, targets, ones).item() == 1.0
    assert explained_variance(targets + 7.0, targets, ones).item() == 1.0  # A bias is no variance.
    assert explained_variance(torch.full((2,), 5.0), targets, ones).item() == 0.0
    assert explained_variance(targets / 2, targets, ones).item() == 0.75
    assert explained_variance(-targets, targets, ones).item() == -3.0


@pytest.mark.parametrize("seed", SEEDS)
def test_explained_variance_equals_numpy_and_adds_up_over_shards(seed):
    rng = np.random.default_rng(seed)
    targets = rng.normal(5.0, 3.0, size=40)
    values = targets + rng.normal(1.0, 2.0, size=40)
    mask = rng.random(40) < 0.7
    expected = 1.0 - np.var((targets - values)[mask]) / np.var(targets[mask])
    values[~mask] = targets[~mask] = np.nan  # Not read.
    data = [torch.from_numpy(x) for x in (values, targets, mask)]
    assert explained_variance(*data).item() == pytest.approx(expected, rel=1e-9)
    shards = [slice(0, 7), slice(7, 30), slice(30, 40)]
    total = torch.stack([error_moments(*(x[s] for x in data)) for s in shards]).sum(0)
    assert variance_ratio(total).item() == pytest.approx(expected, rel=1e-9)


def test_explained_variance_of_constant_or_no_targets_is_zero():
    values = torch.linspace(0.0, 1.0, 7)
    assert explained_variance(values, values, torch.zeros(7)).item() == 0.0
    # Of equal targets, rounding may leave a variance that is not quite 0.
    for constant in torch.linspace(0.1, 50.0, 40, dtype=torch.float64):
        targets = constant.expand(7)
        assert explained_variance(values, targets, torch.ones(7)).item() == 0.0


def test_explained_variance_rejects_wrong_shapes():
    with pytest.raises(ValueError, match="Shapes"):
        explained_variance(torch.zeros(3), torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"\(5,\)"):
        variance_ratio(torch.zeros(3))
