"""MAPPO: one network on all agents' rows, or n PPOs on the team's advantage."""

import numpy as np
import pytest
from toys import MaskedTeam, SlowTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import MAPPOConfig

EQUAL = {"agents": {"a": (3, "box"), "b": (3, "box"), "c": (3, "box")}}


def run(env_config, *, sharing="auto", updates=2, **training):
    config = small_config(MAPPOConfig, env_config=env_config, **training)
    config.multi_agent(parameter_sharing=sharing)
    config.validate()
    learner, runner = make_learner(config), make_runner(config)
    slow, before = SlowTeam(learner), SlowTeam(learner)
    for _ in range(updates):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments)
    moved = before.differences(learner)
    for m in learner.module.keys():  # noqa: SIM118
        assert max(x for (module, _), x in moved.items() if module == m) > 2e-3
    return slow, learner, fragments[0]


@pytest.mark.parametrize("kind", ["box", "discrete", "multi"])
def test_shared_network_learns_from_all_agents_rows_at_once(kind):
    env = {"agents": {a: (3, kind) for a in "abc"}}
    slow, learner, _ = run(env)
    assert set(slow.actors) == {"shared"}
    slow.assert_same(learner)


def test_minibatches_hold_all_agents_of_a_step():
    slow, learner, _ = run(EQUAL, minibatch_size=7)
    slow.assert_same(learner)


@pytest.mark.parametrize("minibatch_size", [None, 7])
def test_steps_of_the_dead_do_not_count(minibatch_size):
    slow, learner, fragment = run({**EQUAL, "dies": {"b": 2}}, minibatch_size=minibatch_size)
    assert not fragment.active["shared"].all()
    slow.assert_same(learner)


def test_shared_network_sees_which_agent_it_is():
    _, learner, fragment = run(EQUAL, updates=1)
    seen = fragment.observations["shared"]
    assert seen.shape[-1] == 3 + 3
    for k in range(3):
        assert np.array_equal(
            seen[:, :, k, 3:], np.broadcast_to(np.eye(3)[k], (*seen.shape[:2], 3))
        )
    # And it matters: the columns of the first layer that read it have been learned from.
    at_start = SlowTeam(make_learner(learner.config)).actors["shared"].weights()["body.1.weight"]
    change = learner.module["shared"].state_dict()["body.1.weight"] - at_start
    assert (change[:, 3:].abs().amax(0) > 1e-4).all()


def test_groups_share_within_and_not_between():
    env = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box"), "d": (2, "discrete")}}
    slow, learner, _ = run(env, sharing={"x": ["a", "c"], "y": ["b", "d"]})
    assert set(slow.actors) == {"x", "y"}
    slow.assert_same(learner)


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("env", [{}, {"dies": {"c": 3}, "state": True}])
def test_without_sharing_it_is_n_independent_ppos_on_the_teams_advantage(env, minibatch_size):
    slow, learner, _ = run(env, sharing="none", minibatch_size=minibatch_size)
    assert set(slow.actors) == {"a", "b", "c"}
    slow.assert_same(learner)


def test_unequal_agents_do_not_share_by_default_and_equal_ones_do():
    assert set(small_config(MAPPOConfig).layout.groups) == {"a", "b", "c"}
    assert set(small_config(MAPPOConfig, env_config=EQUAL).layout.groups) == {"shared"}


def test_of_equal_agents_of_which_only_some_have_masks_none_share_by_default():
    kinds = {"a": (3, "discrete"), "b": (3, "discrete")}
    some, all_ = ({"agents": kinds, "masked": masked} for masked in (["a"], ["a", "b"]))
    assert set(small_config(MAPPOConfig, MaskedTeam, some).layout.groups) == {"a", "b"}
    assert set(small_config(MAPPOConfig, MaskedTeam, all_).layout.groups) == {"shared"}
