"""The counterfactual baseline against enumeration of the agent's actions."""

import numpy as np
import pytest
import torch
from toys import ULP

from rllib_hetero.functional import (
    action_probabilities,
    counterfactual_advantage,
    expected_value,
)

ROWS, P = 6, 4


def case(masked):
    rng = torch.Generator().manual_seed(3)
    values, logits = (torch.randn(ROWS, P, generator=rng) for _ in range(2))
    mask = torch.ones(ROWS, P, dtype=torch.bool)
    if masked:
        mask[::2, 1], mask[1, :3] = False, False
        values[~mask], logits[~mask] = float("nan"), float("nan")
    actions = torch.stack([m.nonzero()[-1, 0] for m in mask])
    return values, logits, mask, actions


@pytest.mark.parametrize("masked", [False, True])
def test_baseline_and_advantage_are_those_of_enumeration(masked):
    values, logits, mask, actions = case(masked)
    probabilities = action_probabilities(logits, mask if masked else None)
    found = counterfactual_advantage(values, probabilities, actions)
    for row in range(ROWS):
        allowed = [b for b in range(P) if mask[row, b]]
        weights = {b: np.exp(float(logits[row, b])) for b in allowed}
        total = sum(weights.values())
        baseline = sum(w / total * float(values[row, b]) for b, w in weights.items())
        expected = float(values[row, actions[row]]) - baseline
        # Sums of P products of numbers of order 1.
        assert float(found[row]) == pytest.approx(expected, abs=8 * P * ULP)
        assert float(expected_value(values, probabilities)[row]) == pytest.approx(
            baseline, abs=8 * P * ULP
        )


def test_its_mean_over_the_policy_is_nought():
    values, logits, _, _ = case(False)
    probabilities = action_probabilities(logits)
    each = [
        counterfactual_advantage(values, probabilities, torch.full((ROWS,), b)) for b in range(P)
    ]
    mean = (torch.stack(each, -1) * probabilities).sum(-1)
    assert float(mean.abs().max()) <= 8 * P * ULP * float(values.abs().max())


def test_the_advantage_is_a_constant_and_the_baseline_is_not():
    values, logits, _, actions = case(False)
    logits.requires_grad_()
    probabilities = action_probabilities(logits)
    assert not counterfactual_advantage(values, probabilities, actions).requires_grad
    assert expected_value(values, probabilities).requires_grad


def test_shapes_that_do_not_fit_are_refused():
    values, logits, _, actions = case(False)
    with pytest.raises(ValueError, match="probabilities"):
        expected_value(values, logits[:, 1:])
    with pytest.raises(ValueError, match="Actions"):
        counterfactual_advantage(values, action_probabilities(logits), actions[1:])
