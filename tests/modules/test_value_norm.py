"""The value normaliser's numbers, by hand."""

import pytest
import torch

from rllib_hetero.functional import moments
from rllib_hetero.modules.value_norm import ValueNorm


def after(*batches, **settings):
    norm = ValueNorm(**settings)
    for batch in batches:
        x = torch.tensor(batch)
        norm.update(moments(x, torch.ones_like(x)))
    return norm


def test_before_the_first_update_it_is_the_identity():
    x = torch.tensor([-3.0, 0.0, 500.0])
    assert torch.equal(ValueNorm().normalize(x), x)
    assert torch.equal(ValueNorm().denormalize(x), x)


@pytest.mark.parametrize(("spread", "scale"), [(0.0, 0.1), (1e-3, 0.1), (0.09, 0.1), (0.2, 0.2)])
def test_the_scale_is_never_below_a_tenth(spread, scale):
    # Two values that are `spread` away from their mean. Targets that hardly differ would
    # otherwise be blown up, and with them errors of no importance.
    norm = after([5.0 - spread, 5.0 + spread])
    assert norm.normalize(torch.tensor(6.0)).item() == pytest.approx(1.0 / scale, rel=1e-4)
    assert norm.denormalize(torch.tensor(1.0)).item() == pytest.approx(5.0 + scale, rel=1e-5)


def test_averages_are_exponential_and_corrected_for_their_start():
    # Means 1 and 4, mean squares 1 and 20, the later weighted 1 to 1/2 for the earlier.
    norm = after([1.0, 1.0], [2.0, 6.0], beta=0.5)
    mean, square = (0.5 * 1 + 1 * 4) / 1.5, (0.5 * 1 + 1 * 20) / 1.5
    assert norm.mean.item() == pytest.approx(mean)
    assert norm.variance.item() == pytest.approx(square - mean**2)


def test_the_default_is_nearly_the_plain_average():
    # Weight 0.99999 on the old, as HARL's.
    norm = after([0.0], [3.0])
    assert norm.mean.item() == pytest.approx(3.0 / 1.99999, rel=1e-6)
    assert norm.weight.item() == pytest.approx(1.0 - 0.99999**2, rel=1e-6)


def test_an_empty_batch_changes_nothing():
    norm = after([1.0, 2.0])
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    norm.update(torch.zeros(3))
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())
