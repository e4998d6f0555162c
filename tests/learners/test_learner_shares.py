"""Any number of learners on shares of a batch computes what one learner does on the whole."""

import numpy as np
import pytest
from learner_pairs import killed_if_it_fails, weights_of
from toys import CountingTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAPPOConfig

pytestmark = pytest.mark.usefixtures("ray_local")

# The same team for all groups, so that these are started once.
UNEQUAL = {"state": True}
ONE_DIES = {"state": True, "dies": {"b": 2}, "end": "terminate"}
DIES_AT_ONCE = {"state": True, "dies": {"b": 1}, "length": 20}


def config_for(cls, env_config, num_learners, minibatch_size=None, **training):
    """The whole batch is the same 3 environments x 8 steps for any number of learners."""
    config = small_config(cls, CountingTeam, env_config, minibatch_size=None, **training)
    config = config.copy(copy_frozen=False)
    learners = max(1, num_learners)
    config.learners(num_learners=num_learners, num_cpus_per_learner=0.5)
    config.minibatch_size = minibatch_size and minibatch_size // learners
    return config


class Groups:
    """Learner groups by algorithm and number of learners, kept for all tests of this file."""

    def __init__(self):
        self.made = {}
        self.first_weights = {}

    def get(self, config):
        key = (config.algo_class, config.num_learners)
        if key not in self.made:
            config = config.copy(copy_frozen=False)
            config.debugging(seed=None)  # Each learner would draw weights of its own.
            self.made[key] = config.build_learner_group()
            self.first_weights[key] = on_each(self.made[key], weights_of)
        return self.made[key]

    def forget(self, config):
        del self.made[config.algo_class, config.num_learners]


@pytest.fixture(scope="module")
def groups():
    groups = Groups()
    yield groups
    for group in groups.made.values():
        group.shutdown()


def on_each(group, function):
    return [r.get() for r in group.foreach_learner(function)]


def batches(config, num_updates=3):
    """Fragments for several updates, from a fixed policy: every learner gets the same."""
    learner = make_learner(config)
    runner = make_runner(config)
    return [sample(runner, learner) for _ in range(num_updates)]


def train(config, state, data, groups=None):
    """Parameters, optimiser state and metrics after updating on `data` from `state`."""
    if config.num_learners == 0:
        learner = make_learner(config)
        learner.set_state(state)
        results = [[update(learner, fragments)] for fragments in data]
        return learner.get_state(), results
    group = groups.get(config)
    with killed_if_it_fails(group, lambda: groups.forget(config)):
        group.set_state({"learner": state})
        size = config.minibatch_size
        results = [update(group, fragments, minibatch_size=size) for fragments in data]
        return group.get_state()["learner"], results


def assert_same(state, other, rtol=1e-4, atol=2e-5):
    """Equal weights, normaliser and optimisers up to float error.

    Of some 10 steps of Adam, whose gradients are sums over 24 rows: see `SlowTeam.roundings`.
    """
    module, module_2 = state["rl_module"], other["rl_module"]
    assert module.keys() == module_2.keys()
    for m in module:
        for name, x in module[m].items():
            np.testing.assert_allclose(
                np.asarray(x), np.asarray(module_2[m][name]), rtol, atol, err_msg=f"{m} {name}"
            )
    assert state["weights_seq_no"] == other["weights_seq_no"]
    for name, x in state["optimizer"].items():
        moments, moments_2 = x["state"]["state"], other["optimizer"][name]["state"]["state"]
        assert moments.keys() == moments_2.keys()
        for i, p in moments.items():
            assert p["step"] == moments_2[i]["step"], name


def start(config):
    """One state for everybody to begin with."""
    return make_learner(config).get_state()


@pytest.mark.parametrize("minibatch_size", [None, 8])
@pytest.mark.parametrize(
    ("cls", "env_config", "num_learners"),
    [
        pytest.param(HAPPOConfig, UNEQUAL, 1, id="happo-unequal-1"),
        pytest.param(HAPPOConfig, UNEQUAL, 2, id="happo-unequal-2"),
        pytest.param(HAPPOConfig, ONE_DIES, 2, id="happo-one_dies-2"),
        pytest.param(HAPPOConfig, DIES_AT_ONCE, 2, id="happo-dies_at_once-2"),
    ],
)
def test_learners_on_shares_are_one_learner_on_the_whole(
    cls, env_config, num_learners, minibatch_size, groups
):
    local = config_for(cls, env_config, 0, minibatch_size)
    remote = config_for(cls, env_config, num_learners, minibatch_size)
    data, state = batches(local), start(local)
    alone, _ = train(local, state, data)
    shared, _ = train(remote, state, data, groups)
    assert_same(alone, shared)
    first = next(iter(alone["rl_module"]))
    assert not np.array_equal(
        alone["rl_module"][first]["head.weight"], state["rl_module"][first]["head.weight"]
    )


def test_both_learners_hold_the_same_weights_to_the_bit(groups):
    config = config_for(HAPPOConfig, UNEQUAL, 2, 8)
    train(config, start(config), batches(config), groups)
    one, two = on_each(groups.get(config), weights_of)
    assert one.keys() == two.keys()
    assert all(np.array_equal(x, two[k]) for k, x in one.items())


def test_learners_start_from_the_same_weights(groups):
    config = config_for(HAPPOConfig, UNEQUAL, 2)
    groups.get(config)
    one, two = groups.first_weights[config.algo_class, 2]
    assert one.keys() == two.keys()
    assert all(np.array_equal(x, two[k]) for k, x in one.items())


@pytest.mark.parametrize("minibatch_size", [None, 8])
def test_a_learner_without_any_rows_takes_part(minibatch_size, groups):
    # One environment for two learners: it goes to one of them, whole.
    local = config_for(HAPPOConfig, UNEQUAL, 0, minibatch_size)
    remote = config_for(HAPPOConfig, UNEQUAL, 2, minibatch_size)
    data = [[f.select(range(1, 2)) for f in fragments] for fragments in batches(local)]
    state = start(local)
    alone, _ = train(local, state, data)
    shared, _ = train(remote, state, data, groups)
    assert_same(alone, shared)


def test_a_minibatch_whose_agent_is_dead_is_skipped_by_all(groups):
    # "b" acts in the first step only, so that most minibatches hold none of its steps, and
    # some hold them on one learner alone.
    local = config_for(HAPPOConfig, DIES_AT_ONCE, 0, 4)
    remote = config_for(HAPPOConfig, DIES_AT_ONCE, 2, 4)
    data, state = batches(local), start(local)
    alone, _ = train(local, state, data)
    shared, _ = train(remote, state, data, groups)
    steps = {
        m: alone["optimizer"][f"{m}_default_optimizer"]["state"]["state"][0]["step"]
        for m in ("a", "b")
    }
    assert 0 < steps["b"] < steps["a"]
    assert_same(alone, shared)


def test_metrics_are_those_of_the_whole_batch(groups):
    from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

    local = config_for(HAPPOConfig, UNEQUAL, 0)
    remote = config_for(HAPPOConfig, UNEQUAL, 2)
    data, state = batches(local, 1), start(local)
    reduced = []
    for config in (local, remote):
        _, (results,) = train(config, state, data, groups)
        logger = MetricsLogger(root=True)
        logger.aggregate(results, key="learners")
        reduced.append(logger.reduce()["learners"])
    for m in ("a", "critic"):
        names = {"loss", "gradient_norm"}
        names |= {"vf_explained_var"} if m == "critic" else {
            "entropy", "mean_kl", "clip_fraction", "num_module_steps_trained"
        }  # fmt: skip
        for name in names:
            one, two = (float(r[m][name]) for r in reduced)
            assert two == pytest.approx(one, rel=1e-3, abs=1e-6), (m, name)
    steps = [r["__all_modules__"]["num_env_steps_trained"] for r in reduced]
    assert steps[0] == steps[1] == 24
