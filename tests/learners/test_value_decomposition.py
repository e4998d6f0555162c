"""QMIX, VDN and IQL against a slow one that walks over episodes, parameter by parameter."""

import functools

import pytest
from off_policy_toys import off_policy_config, update
from toys import CountingTeam, MaskedTeam, make_learner, make_runner, sample
from value_toys import SlowValueLearner

from rllib_hetero import IQLConfig, QMIXConfig, VDNConfig

METHODS = {
    "qmix": (QMIXConfig, "monotonic"),
    "vdn": (VDNConfig, "sum"),
    "iql": (IQLConfig, "none"),
}
every_method = pytest.mark.parametrize("method", METHODS)
TEAM = {"a": (2, "discrete"), "b": (3, "three"), "c": (2, "discrete")}


def run(method, *, env=None, masks=False, model=None, rounds=3, sharing="none", **settings):
    """Both learners after some rounds of a fragment and four updates each."""
    cls, mixing = METHODS[method]
    small = {"hidden_sizes": [8, 8], "max_seq_len": 3}
    if method == "qmix":
        small |= {"mixing_embed_dim": 4, "hypernet_embed": 5}
    config = off_policy_config(
        cls, MaskedTeam if masks else CountingTeam,
        {"agents": TEAM, "length": 5, "end": "alternate"} | (env or {}),
        model=small | (model or {}), sharing=sharing,
        **{"epsilon": 0.5, "target_network_update_freq": 2, "gamma": 0.9} | settings,
    )  # fmt: skip
    learner, runner = make_learner(config), make_runner(config)
    slow, before = SlowValueLearner(learner, mixing), SlowValueLearner(learner, mixing)
    for _ in range(rounds):
        fragments = sample(runner, learner)
        update(learner, fragments, 4)
        slow.update(fragments, 4)
    # The comparison says something: every network has gone a long way, and so have the targets.
    moved = before.differences(learner)
    assert all(x > 1e-3 for (_, name), x in moved.items() if "weight" in name), moved
    return slow, learner


@pytest.mark.parametrize("kind", [None, "gru"])
@every_method
def test_it_is_the_slow_one_over_ends_of_all_kinds(method, kind):
    """Episodes are longer than the stretches; those that end early are padded."""
    slow, learner = run(method, model={"recurrent": kind})
    assert all(slow.seen[x] for x in ("terminated", "truncated", "open", "later", "short"))
    slow.assert_same(learner)


@every_method
def test_the_dead_and_forbidden_choices_take_no_part(method):
    env = {"dies": {"a": 2, "c": 4}, "state": True}
    slow, learner = run(method, masks=True, env=env, model={"recurrent": "gru"}, lambda_=0.6)
    assert slow.seen["dead"] > 20
    slow.assert_same(learner)


@pytest.mark.parametrize("length", [1, 5])
def test_td_lambda_bootstraps_at_the_last_step_that_there_is(length):
    slow, learner = run("qmix", model={"max_seq_len": length}, lambda_=1.0)
    slow.assert_same(learner)


@pytest.mark.parametrize("method", ["vdn", "iql"])
def test_a_reward_that_all_are_given_is_learned_once(method):
    slow, learner = run(method, env={"scheme": "shared", "dies": {"a": 2}}, lambda_=0.5)
    slow.assert_same(learner)


@pytest.mark.parametrize("method", ["qmix", "iql"])
def test_agents_share_a_network_as_told(method):
    slow, learner = run(method, sharing={"pair": ["a", "c"]}, model={"recurrent": "gru"})
    assert set(slow.nets) == {"pair", "b"}
    slow.assert_same(learner)


@functools.cache
def plain_one():
    return run("qmix")[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"double_q": False},
        {"td_huber_delta": 0.3},
        {"grad_clip": 0.1},
        {"tau": 0.3},
        {"replay_buffer_config": {"capacity": 30}},
    ],
    ids=lambda s: next(iter(s)),
)
def test_settings_do_what_they_say(settings):
    slow, learner = run("qmix", **settings)
    slow.assert_same(learner)
    with pytest.raises(AssertionError):  # They change something.
        plain_one().assert_same(learner)
