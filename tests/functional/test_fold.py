"""The compound ratio of the agents updated before, by hand and against a slow product."""

import math

import numpy as np
import pytest
import torch

from rllib_hetero.functional import MultiCategorical, fold, policy_ratio

SEEDS = range(5)
NAN = float("nan")


def test_policy_ratio_hand_computed():
    new = torch.tensor([0.2, 0.6, 0.5]).log()
    old = torch.tensor([0.4, 0.2, 0.5]).log()
    torch.testing.assert_close(policy_ratio(new, old), torch.tensor([0.5, 3.0, 1.0]))


def test_gradient_of_the_ratio_at_the_old_policy_is_that_of_the_log_probability():
    old = torch.tensor([-1.0, -3.0])
    new = old.clone().requires_grad_()
    policy_ratio(new, old).sum().backward()
    assert new.grad is not None and new.grad.tolist() == [1.0, 1.0]


def test_fold_hand_computed():
    correction = torch.tensor([1.0, 2.0, 0.5, 0.0])
    new = torch.tensor([0.2, 0.6, NAN, 0.5]).log()
    old = torch.tensor([0.4, 0.2, NAN, 0.1]).log()
    active = torch.tensor([True, True, False, True])
    expected = torch.tensor([0.5, 6.0, 0.5, 0.0])
    torch.testing.assert_close(fold(correction, new, old, active), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_folding_in_turn_gives_the_product_over_the_acting_agents(seed):
    rng = np.random.default_rng(seed)
    agents, batch = 4, 30
    new, old = rng.normal(size=(2, agents, batch))
    active = rng.random((agents, batch)) < 0.7
    expected = []
    for b in range(batch):
        product = 1.0
        for i in range(agents):
            if active[i, b]:
                product *= math.exp(new[i, b]) / math.exp(old[i, b])
        expected.append(product)

    def chain(order):
        correction = torch.ones(batch, dtype=torch.float64)
        for i in order:
            correction = fold(correction, *(torch.from_numpy(x[i]) for x in (new, old, active)))
        return correction.numpy()

    np.testing.assert_allclose(chain(range(agents)), expected, rtol=1e-12)
    np.testing.assert_allclose(chain(rng.permutation(agents)), expected, rtol=1e-12)


@pytest.mark.parametrize("components", [1, 2, 3])
def test_an_action_of_several_components_counts_once(components):
    # The joint ratio is the product over components, r_1 * ... * r_k, and not its k-th power.
    dist = MultiCategorical((2,) * components)
    old = torch.tensor([[0.5, 0.5] * components]).log()
    new = torch.tensor([[0.6, 0.4] * components]).log()
    action = torch.zeros(1, components, dtype=torch.int64)
    ratio = policy_ratio(dist.log_prob(new, action), dist.log_prob(old, action))
    assert ratio.shape == (1,)
    torch.testing.assert_close(ratio, torch.tensor([1.2**components]))


def test_shapes_that_would_broadcast_are_rejected():
    x = torch.zeros(3)
    with pytest.raises(ValueError, match="logp_old"):
        policy_ratio(x, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="active"):
        fold(x, x, x, torch.ones(1, dtype=torch.bool))
    with pytest.raises(ValueError, match="bool"):
        fold(x, x, x, torch.ones(3))
