"""Two off-policy learners, each with the replay of its environments, take the steps of one."""

import numpy as np
import pytest
from learner_pairs import train_off_policy
from off_policy_toys import off_policy_config, update
from test_several_learners import assert_close, assert_equal_bits
from toys import make_learner, make_runner, sample

from rllib_hetero import (
    HAD3QNConfig,
    HASACConfig,
    HATD3Config,
    IQLConfig,
    MAACConfig,
    MADDPGConfig,
    MASACConfig,
    QMIXConfig,
    VDNConfig,
)

# Three environments: one learner is home to one of them, the other one to two.
THREE = {
    "agents": {"a": (3, "box"), "b": (4, "discrete"), "c": (5, "multi")},
    "state": True,
    "dies": {"b": 3},
    "end": "alternate",
}
CHOOSING = THREE | {"agents": {"a": (3, "three"), "b": (4, "discrete"), "c": (5, "three")}}
STRETCHES = {"model": {"recurrent": "gru", "max_seq_len": 2}, "lambda_": 0.5}
CASES = {
    "hatd3": (HATD3Config, THREE, {"policy_delay": 2, "n_step": 2}),
    "hasac": (HASACConfig, THREE, {"policy_delay": 2, "n_step": 2}),
    "maddpg": (MADDPGConfig, THREE, {}),
    "masac": (MASACConfig, THREE, {"policy_delay": 2}),
    "had3qn": (HAD3QNConfig, CHOOSING, {"n_step": 2}),
    "maac": (MAACConfig, CHOOSING, {"model": {"attention_size": 8, "num_attention_heads": 2}}),
    "qmix": (QMIXConfig, CHOOSING, STRETCHES | {"target_network_update_freq": 1}),
    # Unlike QMIX's, their critic has no parameters, and IQL learns from the agents' own rewards.
    "vdn": (VDNConfig, CHOOSING, STRETCHES | {"target_network_update_freq": 1}),
    "iql": (IQLConfig, CHOOSING, STRETCHES | {"target_network_update_freq": 1}),
    "inputs in their units": (HASACConfig, THREE, {"model": {"input_norm": True}}),
    "inputs in their units, in stretches": (
        QMIXConfig,
        CHOOSING,
        {"model": {"input_norm": True, "max_seq_len": 2}, "target_network_update_freq": 1},
    ),
    "by priority": (
        HATD3Config,
        THREE,
        {"replay_buffer_config": {"capacity": 300, "alpha": 0.6, "beta": 0.4}, "n_step": 2},
    ),
}
every_case = pytest.mark.parametrize("case", CASES)
# Whose minibatch may have two rows, drawn uniformly.
of_two_rows = pytest.mark.parametrize("case", ["hatd3", "hasac", "had3qn", "maac"])


def config_for(case, num_learners, batch_size):
    """All learners together draw the same number of rows."""
    per_learner = batch_size // max(1, num_learners)
    cls, env_config, settings = CASES[case]
    config = off_policy_config(
        cls, env_config=env_config, train_batch_size_per_learner=per_learner, **settings
    )
    config = config.copy(copy_frozen=False)
    config.learners(num_learners=num_learners, num_cpus_per_learner=0.5)
    return config


def compare(case, pair, *, batch_size=16, envs=range(3)):
    local, remote = (config_for(case, n, batch_size) for n in (0, 2))
    start = make_learner(local)
    state, runner = start.get_state(), make_runner(local)
    data = [[f.select(envs) for f in sample(runner, start)] for _ in range(3)]
    alone = make_learner(local)
    alone.set_state(state)
    for fragments in data:
        update(alone, fragments, 4)
    shared, one, two = pair(remote, state, data, train=train_off_policy)
    assert_equal_bits(one, two)
    assert_close(alone.get_state(), shared)
    for m, weights in alone.get_state()["rl_module"].items():
        before = state["rl_module"][m]
        assert not weights or any(not np.array_equal(x, before[k]) for k, x in weights.items()), m
    return alone


@every_case
def test_two_learners_are_one(case, pair):
    compare(case, pair)


@of_two_rows
def test_a_learner_may_have_no_rows_of_a_minibatch(case, pair):
    """Of two rows, both are often of one learner."""
    alone = compare(case, pair, batch_size=2)
    first = len(alone.replay) // 3
    drawn = [
        np.random.default_rng((7, k, 1)).integers(first * 3, size=2) < first for k in range(8, 12)
    ]
    assert any(x.all() for x in drawn) or any(not x.any() for x in drawn)


def test_a_learner_may_have_no_rows_at_all(pair):
    """No environment of its own has answered."""
    compare("hasac", pair, envs=range(1, 3))
    compare("by priority", pair, envs=range(1, 3))
