"""A ratio past all numbers, where the clipped objective is flat, does not end training."""

import pytest
import torch
from ray.rllib.core import Columns
from toys import (
    all_weights,
    make_learner,
    make_runner,
    sample,
    small_config,
    update,
    watch_changes,
)

from rllib_hetero import A2POConfig, BPPOConfig, CoPPOConfig, HAPPOConfig, MAPPOConfig
from rllib_hetero.errors import NonFiniteUpdateError

ALL = {
    "HAPPO": (HAPPOConfig, {}),
    "A2PO": (A2POConfig, {}),
    "BPPO": (BPPOConfig, {}),
    "BPPO, simultaneous": (BPPOConfig, {"update_scheme": "simultaneous"}),
    "CoPPO": (CoPPOConfig, {}),
    "MAPPO": (MAPPOConfig, {}),
}


def updated(name, sign, order="abc"):
    """Weights before and after an update in which c's new density is e^200 times what it was.

    Of those rows alone whose advantages have this sign; for 0, some are made 0. Agents are
    updated in `order`, where there is one.
    """
    cls, training = ALL[name]
    if cls in (HAPPOConfig, A2POConfig):
        training = {"update_order": list(order)}
    elif cls is BPPOConfig:
        training = training | {"execution_order": list(reversed(order))}
    config = small_config(cls, sharing="none", gamma=0.9, num_epochs=2, lr=1e-4, **training)
    learner = make_learner(config)
    set_old_policy = learner._set_old_policy

    def unlikely(batch):
        set_old_policy(batch)
        advantages = batch["critic"][Columns.ADVANTAGES]
        if sign == 0:
            advantages[:5] = 0.0
        rows = advantages[:, 0].sign() == sign
        assert rows.any()
        batch["c"][Columns.ACTION_LOGP][rows, 0] -= 200.0

    learner._set_old_policy = unlikely
    changes = watch_changes(learner)
    before = all_weights(learner)
    update(learner, sample(make_runner(config), learner))
    assert max(float(change.log_ratio.max()) for m, change, _ in changes if m == "c") > 190.0
    return before, all_weights(learner)


def assert_trained(before, after):
    assert all(x.isfinite().all() for x in after.values())
    for m in "abc":
        assert any(not torch.equal(x, before[k]) for k, x in after.items() if k[0] == m), m


@pytest.mark.parametrize("name", ALL)
def test_flat_samples_leave_the_others_their_gradient(name):
    assert_trained(*updated(name, +1))


# A2PO estimates advantages anew. BPPO, one after another, has a gradient of the product of ratios,
# which is infinite where that is.
@pytest.mark.parametrize("name", ["HAPPO", "BPPO, simultaneous", "CoPPO", "MAPPO"])
def test_samples_without_an_advantage_count_nothing_whoever_else_has_moved(name):
    assert_trained(*updated(name, 0, order="cba"))


@pytest.mark.parametrize("name", ["HAPPO", "MAPPO"])
def test_where_the_objective_follows_them_it_is_an_error(name):
    with pytest.raises(NonFiniteUpdateError, match="'c'"):
        updated(name, -1)
