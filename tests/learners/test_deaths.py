"""Agents that die, in the learners of all algorithms: what they left behind trains nobody."""

import copy

import numpy as np
import pytest
import torch
from toys import (
    CountingTeam,
    MaskedTeam,
    all_weights,
    make_learner,
    make_runner,
    names_of,
    sample,
    small_config,
    update,
    watch_changes,
    watch_notes,
)

from rllib_hetero import ALGORITHMS
from rllib_hetero.connectors.fragments_to_batch import ACTIVE

every_algorithm = pytest.mark.parametrize("name", names_of("on-policy", ["Box"]))
memories = pytest.mark.parametrize("memory", [None, "gru"])
# Whole batches of single rows, and minibatches of chunks.
batches = pytest.mark.parametrize(("minibatch_size", "memory"), [(None, None), (7, "gru")])
# With a state of its own, the critic does not see what stands in place of a dead agent.
DYING = {"state": True, "dies": {"a": 2, "b": 3, "c": 4}, "end": "alternate"}


def config_of(name, env_config, env=CountingTeam, *, memory=None, critic=None, **training):
    cls = type(ALGORITHMS[name].get_default_config())
    model = {"recurrent": memory, "critic_recurrent": critic, "max_seq_len": 3}
    return small_config(cls, env, env_config, model=model, **training)


def fragments_of(config, count=1):
    """Drawn with the weights that a learner of this config starts with."""
    learner, runner = make_learner(config), make_runner(config)
    return [sample(runner, learner)[0] for _ in range(count)]


def trained(config, fragments):
    """A new learner after one update on each of these fragments."""
    learner = make_learner(config)
    for f in fragments:
        update(learner, [f])
    return all_weights(learner)


def assert_equal(one, other, modules=None):
    assert one.keys() == other.keys()
    different = [
        k for k, x in one.items()
        if (modules is None or k[0] in modules) and not torch.equal(x, other[k])
    ]  # fmt: skip
    assert not different, different


def with_garbage(f, seed):
    """A copy with other numbers wherever an agent is dead."""
    f, rng = copy.deepcopy(f), np.random.default_rng(seed)
    for m, alive in f.active.items():
        dead = ~alive
        f.observations[m][dead] = rng.normal(size=f.observations[m][dead].shape)
        actions = f.actions[m]
        if actions.dtype.kind == "f":
            actions[dead] = rng.normal(size=actions[dead].shape)
        else:  # Of every component, the second choice or the first.
            actions[dead] = rng.integers(2, size=actions[dead].shape)
        f.dist_inputs[m][dead] = rng.normal(size=f.dist_inputs[m][dead].shape)
        f.log_probs[m][dead] = rng.normal(size=f.log_probs[m][dead].shape)
    return f


@batches
@every_algorithm
def test_what_stands_in_steps_of_the_dead_changes_nothing(name, minibatch_size, memory):
    """Beside masked agents; masks of the dead allow everything."""
    config = config_of(name, DYING, MaskedTeam, memory=memory, minibatch_size=minibatch_size)
    fragments = fragments_of(config, 2)
    assert all(not f.active[m].all() and f.active[m].any() for f in fragments for m in "abc")
    assert all(f.action_masks[m][~f.active[m]].all() for f in fragments for m in "bc")
    garbage = [with_garbage(f, i) for i, f in enumerate(fragments)]
    assert_equal(trained(config, fragments), trained(config, garbage))


@every_algorithm
def test_what_stands_in_steps_of_the_living_matters(name):
    """The test above would see a difference."""
    config = config_of(name, DYING)
    (f,) = fragments_of(config)
    other = copy.deepcopy(f)
    t, e, _ = np.argwhere(other.active["a"])[3]
    other.observations["a"][t, e] *= -1.0
    one, two = trained(config, [f]), trained(config, [other])
    assert not torch.equal(one["a", "body.1.weight"], two["a", "body.1.weight"])


@memories
@every_algorithm
def test_correction_is_one_where_all_others_are_dead(name, memory):
    """Whatever the order: in the last steps "d" is alone."""
    env = {"agents": {**CountingTeam.AGENTS, "d": (2, "discrete")}, **DYING}
    config = config_of(name, env, memory=memory, lr=0.02)
    learner = make_learner(config)
    (f,) = fragments_of(config)
    alone = f.active["d"][:, :, 0] & ~np.any([f.active[m][:, :, 0] for m in "abc"], 0)
    assert alone.sum() >= 3
    alone = torch.from_numpy(alone.swapaxes(0, 1).reshape(-1).copy())
    changes = watch_changes(learner)
    update(learner, [f])
    corrections = [c.correction for m, c, _ in changes if m == "d"]
    for correction in corrections:
        given = correction if memory is None else learner._units.put_back(correction)
        assert (given.reshape(24, -1)[alone] == 1).all()


@every_algorithm
def test_the_critic_does_not_care_who_is_dead(name):
    """Actors stand still, so that no correction tells it."""
    for critic in (None, "gru"):
        config = config_of(
            name, {"state": True}, critic=critic, lr=0.0, critic_lr=1e-2, minibatch_size=7
        )
        (f,) = fragments_of(config)
        other = copy.deepcopy(f)
        other.active["b"][3:] = False
        other.active["c"][:] = False
        if name == "HATRPO":  # Its actors step without a learning rate: nobody shall.
            config.multi_agent(policies_to_train=[])
        one, two = trained(config, [f]), trained(config, [other])
        assert_equal(one, two, ["critic"])
        start = all_weights(make_learner(config))
        name_of = "critic", "networks.0.head.weight"
        assert not torch.equal(one[name_of], start[name_of])


@memories
@every_algorithm
def test_all_die_at_once_and_the_episode_is_over(name, memory):
    env = {"state": True, "dies": dict.fromkeys("abc", 3), "length": 3, "end": "terminate"}
    config = config_of(name, env, memory=memory, critic=memory)
    learner = make_learner(config)
    (f,) = fragments_of(config)
    assert all(f.active[m].all() for m in "abc")
    assert f.terminated[[2, 5]].all() and f.terminated.sum() == 6 and not f.truncated.any()
    before, notes = all_weights(learner), watch_notes(learner)
    update(learner, [f])
    after = all_weights(learner)
    for m in "abc":
        assert not torch.equal(before[m, "head.weight"], after[m, "head.weight"])
    assert all(torch.isfinite(x).all() for x in after.values())
    assert all(np.isfinite(x).all() for x in notes.values())


@batches
@every_algorithm
def test_an_agent_that_is_dead_all_the_time_stands_still(name, minibatch_size, memory):
    config = config_of(name, {"state": True}, memory=memory, minibatch_size=minibatch_size)
    (f,) = fragments_of(config)
    f.active["b"][:] = False
    learner = make_learner(config)
    before, notes, changes = all_weights(learner), watch_notes(learner), watch_changes(learner)
    update(learner, [f])
    after = all_weights(learner)
    for (m, part), x in before.items():
        assert m != "b" or torch.equal(x, after[m, part]), part
    for m in ("a", "c", "critic"):
        part = "networks.0.head.weight" if m == "critic" else "head.weight"
        assert not torch.equal(before[m, part], after[m, part])
    assert not any(rows[ACTIVE].any() for m, _, rows in changes if m == "b")
    assert all(np.isfinite(x).all() for x in notes.values())
    for _, optimizer in learner.get_optimizers_for_module("b") if name != "HATRPO" else ():
        assert not optimizer.state


@every_algorithm
def test_a_team_that_is_dead_all_the_time_trains_its_critic_alone(name):
    config = config_of(name, {"state": True})
    (f,) = fragments_of(config)
    for alive in f.active.values():
        alive[:] = False
    learner = make_learner(config)
    before, notes = all_weights(learner), watch_notes(learner)
    update(learner, [f])
    after = all_weights(learner)
    assert_equal(before, after, "abc")
    part = "critic", "networks.0.head.weight"
    assert not torch.equal(before[part], after[part]) and torch.isfinite(after[part]).all()
    assert all(np.isfinite(x).all() for x in notes.values())
