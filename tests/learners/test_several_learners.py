"""Two learners on shares of a batch take the steps of one, whatever the algorithm.

How a learner group shares out a batch is `test_learner_shares`'s.
"""

import numpy as np
import pytest
from toys import CountingTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import A2POConfig, COMAConfig, HAPPOConfig, HATRPOConfig, MAPPOConfig

KINDS = ("box", "discrete", "multi")
# Observations of two numbers would be two signs after the layer norm: hard to step on exactly.
THREE = {
    "agents": {"a": (3, "box"), "b": (4, "discrete"), "c": (5, "multi")},
    "state": True,
    "dies": {"b": 3},
    "end": "alternate",
}
CHOOSING = THREE | {"agents": {"a": (3, "three"), "b": (4, "discrete"), "c": (5, "three")}}
EQUAL = {"agents": {"a": (3, "box"), "b": (3, "box")}}
SEVENTEEN = {
    "agents": {f"agent{i}": (3 + i % 3, KINDS[i % 3]) for i in range(17)},
    "state": True,
    "dies": {"agent3": 2, "agent5": 1},
    "length": 4,
}
CASES = {
    "happo": (HAPPOConfig, {}),
    "mappo": (MAPPOConfig, {}),
    # Strong damping and few products: near its solution the system's residual is all rounding, and
    # the next direction is made of it.
    "hatrpo": (HATRPOConfig, {"cg_iterations": 3, "cg_damping": 1.0, "kl_threshold": 1e-3}),
    "a2po": (A2POConfig, {}),
    "a2po-own-critics": (A2POConfig, {"per_agent_critics": True}),
    "coma": (COMAConfig, {"critic_num_epochs": 4, "target_network_update_freq": 3}),
}


def config_for(case, env_config, num_learners, *, minibatch_size=None, steps=8, num_epochs=2):
    """The whole batch is the same 3 environments for any number of learners."""
    cls, training = CASES[case]
    config = small_config(
        cls, CountingTeam, env_config, steps=steps, num_epochs=num_epochs, **training
    )
    config = config.copy(copy_frozen=False)
    config.rl_module(model_config={"hidden_sizes": [8], "actor_head_gain": 1.0})
    config.learners(num_learners=num_learners, num_cpus_per_learner=0.5)
    config.minibatch_size = minibatch_size and minibatch_size // max(1, num_learners)
    return config


def batches(config, num_updates):
    """Fragments for several updates, from a fixed policy: every learner gets the same."""
    learner = make_learner(config)
    runner = make_runner(config)
    return [sample(runner, learner) for _ in range(num_updates)]


def alone(config, state, data):
    learner = make_learner(config)
    learner.set_state(state)
    for fragments in data:
        update(learner, fragments)
    return learner.get_state()


def assert_close(whole, shared):
    """Equal up to float error, as the order of a sum makes it; steps are of 1e-3 and more.

    Of some 20 steps of Adam, whose gradients are sums over 24 rows: see `SlowTeam.roundings`.
    """
    assert whole["weights_seq_no"] == shared["weights_seq_no"]
    assert whole["rl_module"].keys() == shared["rl_module"].keys()
    for m, weights in whole["rl_module"].items():
        for name, x in weights.items():
            gap = np.abs(np.asarray(x) - np.asarray(shared["rl_module"][m][name]))
            assert gap.max() < 5e-5, (m, name, gap.max())


def assert_equal_bits(one, two):
    assert one.keys() == two.keys()
    for k, x in one.items():
        assert np.array_equal(x, two[k]), k
        assert np.isfinite(x).all(), k


@pytest.mark.parametrize(
    ("env", "minibatch_size"),
    [(THREE, None), (THREE, 8), (SEVENTEEN, 8)],
    ids=["3", "3-minibatches", "17-minibatches"],
)
@pytest.mark.parametrize("case", ["happo", "hatrpo", "a2po", "a2po-own-critics"])
def test_two_learners_are_one(case, env, minibatch_size, pair):
    local = config_for(case, env, 0, minibatch_size=minibatch_size)
    remote = config_for(case, env, 2, minibatch_size=minibatch_size)
    count = 3 if env is THREE else 2
    data, state = batches(local, count), make_learner(local).get_state()
    whole = alone(local, state, data)
    shared, one, two = pair(remote, state, data)
    assert_equal_bits(one, two)
    assert_close(whole, shared)
    for m in whole["rl_module"]:
        name = "networks.0.head.weight" if m == "critic" else "head.weight"
        before, after = (np.asarray(s["rl_module"][m][name]) for s in (state, whole))
        assert not np.array_equal(before, after), m


@pytest.mark.parametrize("minibatch_size", [None, 8])
def test_two_learners_are_one_on_a_shared_network(minibatch_size, pair):
    test_two_learners_are_one("mappo", EQUAL, minibatch_size, pair)


@pytest.mark.parametrize("minibatch_size", [None, 8])
def test_two_learners_draw_what_is_done_next_as_one(minibatch_size, pair):
    local, remote = (config_for("coma", CHOOSING, n, minibatch_size=minibatch_size) for n in (0, 2))
    data, state = batches(local, 3), make_learner(local).get_state()
    whole = alone(local, state, data)
    shared, one, two = pair(remote, state, data)
    assert_equal_bits(one, two)
    assert_close(whole, shared)
    assert any(
        not np.array_equal(x, state["rl_module"]["critic"][k])
        for k, x in whole["rl_module"]["critic"].items()
        if k.startswith("target_network")
    )


@pytest.mark.parametrize("case", ["hatrpo", "a2po-own-critics"])
def test_a_learner_without_rows_takes_part(case, pair):
    # One environment for two learners: it goes to one of them, whole.
    local, remote = (config_for(case, THREE, n) for n in (0, 2))
    data = [[f.select(range(1, 2)) for f in fragments] for fragments in batches(local, 2)]
    state = make_learner(local).get_state()
    whole = alone(local, state, data)
    shared, one, two = pair(remote, state, data)
    assert_equal_bits(one, two)
    assert_close(whole, shared)


def many(case, env, pair, *, updates):
    config = config_for(case, env, 2, minibatch_size=6, steps=4, num_epochs=1)
    data = batches(config_for(case, env, 0, steps=4), 5)
    state = make_learner(config_for(case, env, 0)).get_state()
    end, one, two = pair(config, state, data, repeat=updates // 5)
    assert_equal_bits(one, two)
    assert end["weights_seq_no"] == state["weights_seq_no"] + updates


@pytest.mark.parametrize("case", ["happo", "hatrpo", "a2po"])
def test_many_updates_of_three_agents(case, pair):
    many(case, THREE, pair, updates=25)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case != "coma"])
def test_a_hundred_updates_of_seventeen_agents(case, pair):
    many(case, SEVENTEEN, pair, updates=100)
