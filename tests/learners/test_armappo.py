"""ARMAPPO: MAPPO's update under the conditioning that the agents acted under."""

import copy
import dataclasses

import pytest
import torch
from test_bppo import GAUSSIAN, LARGE, PAIRS, MemoryInTurnActor, without_context
from test_recurrent_learner import SlowMemoryTeam
from toys import (
    CountingTeam,
    InTurn,
    MaskedTeam,
    SlowARMAPPO,
    all_weights,
    make_learner,
    make_runner,
    sample_in_turn,
    small_config,
    update,
    watch_changes,
    watch_notes,
)

from rllib_hetero import ARMAPPOConfig, MAPPOConfig
from rllib_hetero.connectors.fragments_to_batch import ACTIVE

CASES = {
    "mixed": (CountingTeam, {}, {}),
    "minibatches, one dies": (CountingTeam, {"dies": {"b": 3}}, {"minibatch_size": 7}),
    "random order": (CountingTeam, {"dies": {"b": 3}}, {"execution_order": "random"}),
    "reverse order": (CountingTeam, {}, {"execution_order": "reverse"}),
    "masked": (MaskedTeam, {"dies": {"b": 2, "c": 3}}, {"minibatch_size": 7}),
    "one network": (CountingTeam, {**GAUSSIAN, "dies": {"a": 2}}, {"sharing": "full"}),
    "two networks": (CountingTeam, PAIRS, {"sharing": {"x": ["a", "c"], "y": ["b", "d"]}}),
    "at the head": (CountingTeam, {}, {"model": {"action_projection": False}}),
}
every_case = pytest.mark.parametrize("case", CASES)
networks = pytest.mark.parametrize(
    ("case", "memory"),
    [
        *((case, None) for case in CASES),
        ("random order", "gru"),
        ("masked", "lstm"),
        ("one network", "gru"),
        ("at the head", "lstm"),
    ],
)


def make(case, memory=None, cls=ARMAPPOConfig, **kwargs):
    env, env_config, given = CASES[case]
    given = {**LARGE, **given, **kwargs}
    model = {"recurrent": memory, "max_seq_len": 3, **given.pop("model", {})}
    config = small_config(cls, env, env_config, model=model, **given)
    return make_learner(config), make_runner(config)


# ---- the conditioning ---------------------------------------------------------------------------


@networks
def test_ratios_of_the_first_step_are_exactly_one(case, memory):
    learner, runner = make(case, memory, minibatch_size=None)
    for _ in range(2):
        fragments = sample_in_turn(runner, learner)
        changes = watch_changes(learner)
        update(learner, fragments)
        del learner.policy_change
        for m in learner.config.layout.groups:
            mine = [c.ratio[rows[ACTIVE] > 0] for module, c, rows in changes if module == m]
            assert (mine[0] == 1).all() and (mine[-1] != 1).any()


@networks
def test_the_learner_finds_the_log_probabilities_of_the_runner(case, memory):
    """Also once the policies depend on what they hear."""
    learner, runner = make(case, memory, lr=0.02)
    heard = 0.0
    for _ in range(3):
        fragments = sample_in_turn(runner, learner)
        notes = watch_notes(learner)
        update(learner, fragments)
        del learner.notes.add
        gaps = [x[0] for (_, name), x in notes.items() if name == "sampler_logp_gap"]
        assert len(gaps) == len(learner.config.layout.groups) and max(gaps) < 1e-4, notes
        # Without what was heard, the log-probabilities would be others.
        (f,) = fragments
        other = make_learner(learner.config)
        other.set_state(learner.get_state())
        notes = watch_notes(other)
        size = learner.config.layout.context_size
        deaf = copy.deepcopy(f)
        for x in deaf.observations.values():
            x[..., -size:] = 0.0
        update(other, [deaf])
        heard = max(x[0] for (_, name), x in notes.items() if name == "sampler_logp_gap")
    assert heard > 0.1


def test_another_order_than_that_of_acting_would_be_seen():
    learner, runner = make("mixed")
    (f,) = sample_in_turn(runner, learner)
    size = learner.config.layout.context_size
    f.observations["c"][..., -size:] = 0.0  # as if it had acted first
    notes = watch_notes(learner)
    update(learner, [f])
    assert notes["c", "sampler_logp_gap"][0] > 0.01
    assert notes["b", "sampler_logp_gap"][0] < 1e-5


# ---- the update ---------------------------------------------------------------------------------


@every_case
def test_update_is_mappos(case):
    learner, runner = make(case)
    slow, before = SlowARMAPPO(learner), SlowARMAPPO(learner)
    for _ in range(2):
        fragments = sample_in_turn(runner, learner)
        update(learner, fragments)
        slow.update(fragments)
    moved = before.differences(learner)
    context = [x for (_, name), x in moved.items() if "projection" in name or name == "head.weight"]
    assert max(context) > 1e-3
    slow.assert_same(learner)


class SlowMemoryARMAPPO(InTurn, SlowMemoryTeam):
    def in_turn_actor(self, m, weights, space):
        actor = MemoryInTurnActor(weights, space)
        actor.take_context(weights, self.context_size, self.num_masked(m))
        actor.size = self.team.observation_spaces[self.groups[m][0]].shape[0]
        return actor


@pytest.mark.parametrize(
    ("case", "memory"),
    [("minibatches, one dies", "gru"), ("random order", "lstm"), ("one network", "gru")],
)
def test_recurrent_update(case, memory):
    learner, runner = make(case, memory)
    slow = SlowMemoryARMAPPO(learner)
    for _ in range(2):
        fragments = sample_in_turn(runner, learner)
        update(learner, fragments)
        slow.update(fragments)
    slow.assert_same(learner)


# ---- without anything heard ---------------------------------------------------------------------


def deaf(fragment, size):
    f = copy.deepcopy(fragment)
    for x in f.observations.values():
        x[..., -size:] = 0.0
    return f


@pytest.mark.parametrize(
    "env", [{"agents": {"only": (3, "multi")}}, {}, {"dies": {"b": 3}}], ids=["one", "3", "dies"]
)
def test_without_contexts_it_is_mappo(env):
    """With actions at the head: on zeros, the weights behind it do nothing."""
    kwargs = {**LARGE, "minibatch_size": 7, "sharing": "none"}
    config = small_config(
        ARMAPPOConfig, env_config=env, model={"action_projection": False}, **kwargs
    )
    learner, runner = make_learner(config), make_runner(config)
    mappo = make_learner(small_config(MAPPOConfig, env_config=env, **kwargs))
    before, size = all_weights(learner), config.layout.context_size
    for (m, name), x in all_weights(mappo).items():
        given = before[m, name]
        at_head = m != "critic" and name == "head.weight"
        mappo.module[m].state_dict()[name].copy_(given[:, :-size] if at_head else given)
        assert x.shape == mappo.module[m].state_dict()[name].shape
    for _ in range(3):
        (fragment,) = sample_in_turn(runner, learner)
        silent = deaf(fragment, size)
        update(learner, [silent])
        update(mappo, [without_context(silent, size)])
    after = all_weights(learner)
    for (m, name), x in all_weights(mappo).items():
        got = after[m, name]
        if m != "critic" and name == "head.weight":
            assert torch.equal(got[:, -size:], before[m, name][:, -size:])
            got = got[:, :-size]
            assert (got - before[m, name][:, :-size]).abs().max() > 5e-3
        torch.testing.assert_close(got, x, rtol=0, atol=2e-6, msg=f"{m} {name}")


def test_the_critic_does_not_hear():
    learner, runner = make("mixed")
    (f,) = sample_in_turn(runner, learner)
    other = make_learner(learner.config)
    other.set_state(learner.get_state())
    update(learner, [f])
    noisy = copy.deepcopy(f)
    for x in (*noisy.observations.values(), *noisy.last_observations.values()):
        x[..., -learner.config.layout.context_size :] += 1.0
    noisy = dataclasses.replace(noisy)
    update(other, [noisy])
    one, two = all_weights(learner), all_weights(other)
    for (m, name), x in one.items():
        assert m != "critic" or torch.equal(x, two[m, name]), name
    assert not torch.equal(one["b", "head.weight"], two["b", "head.weight"])
