"""Action masks in the learners of all algorithms: what is forbidden stays out of everything."""

import copy

import numpy as np
import pytest
import torch
from gymnasium.spaces import MultiDiscrete
from ray.rllib.core import Columns
from toys import (
    MaskedTeam,
    all_weights,
    make_learner,
    make_runner,
    names_of,
    sample,
    small_config,
    team_batch,
    update,
    watch_changes,
    watch_notes,
)

from rllib_hetero import ALGORITHMS, HAPPOConfig, HATRPOConfig
from rllib_hetero.connectors.fragments_to_batch import ACTION_MASK, ACTIVE
from rllib_hetero.functional import flat
from rllib_hetero.learners.on_policy import trust_region
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION

MASKED = ("b", "c", "d")  # Discrete, MultiDiscrete, Discrete; "a" has a Box
every_algorithm = pytest.mark.parametrize("name", names_of("on-policy", ["Box"]))
memories = pytest.mark.parametrize("memory", [None, "gru"])
# Whole batches of single rows, and minibatches of chunks.
batches = pytest.mark.parametrize(("minibatch_size", "memory"), [(None, None), (7, "gru")])


class Never(MaskedTeam):
    """Of every component with three choices or more, the first is never allowed."""

    def _mask(self, agent):
        return forbid_first(self.action_spaces[agent])


class Forced(MaskedTeam):
    """In every second step only the last choice of each component is allowed, but not of "a"."""

    def _mask(self, agent):
        space = self.action_spaces[agent]
        if self.t % 2 == 0:
            return super()._mask(agent)
        return np.concatenate([np.arange(n) == n - 1 for n in sizes(space)]).astype(np.int8)


def sizes(space):
    return space.nvec.tolist() if isinstance(space, MultiDiscrete) else [space.n]


def forbid_first(space):
    return np.concatenate([(np.arange(n) > 0) | (n < 3) for n in sizes(space)]).astype(np.int8)


def make(name, env=MaskedTeam, env_config=None, *, memory=None, **training):
    cls = type(ALGORITHMS[name].get_default_config())
    model = {"recurrent": memory, "max_seq_len": 3}
    config = small_config(cls, env, env_config, model=model, **training)
    return make_learner(config), make_runner(config)


def space_of(learner, agent):
    return learner.config.layout.team.action_spaces[agent]


def probabilities(space, logits):
    """(..., p) by hand in double precision; components one after another."""
    parts = np.split(np.asarray(logits, np.float64), np.cumsum(sizes(space))[:-1], -1)
    parts = [np.exp(x - x.max(-1, keepdims=True)) for x in parts]
    return np.concatenate([x / x.sum(-1, keepdims=True) for x in parts], -1)


def raw_logits(learner, agent, batch):
    """Without any mask."""
    rows = {k: v for k, v in learner.agent_rows(batch, agent).items() if k != ACTION_MASK}
    return learner.dist_inputs(agent, rows).numpy()


@batches
@every_algorithm
def test_updates_are_finite_and_nothing_forbidden_is_likely(name, minibatch_size, memory):
    learner, runner = make(name, memory=memory, minibatch_size=minibatch_size, lr=0.01)
    for _ in range(3):
        fragments = sample(runner, learner)  # The environment refuses what is forbidden.
        changes, notes = watch_changes(learner), watch_notes(learner)
        update(learner, fragments)
        del learner.policy_change, learner.notes.add
        assert all(torch.isfinite(x).all() for x in all_weights(learner).values())
        assert all(np.isfinite(x).all() for x in notes.values())
        for m in "abcd":
            first, rows = next((c, rows) for module, c, rows in changes if module == m)
            living = rows[ACTIVE] > 0
            if minibatch_size is None or name == "HATRPO":
                assert (first.ratio[living] == 1).all(), m
            else:  # Products of other shapes are rounded otherwise.
                torch.testing.assert_close(first.ratio[living], torch.ones(int(living.sum())))
    batch = team_batch(learner, sample(runner, learner))
    for m in MASKED:
        rows = learner.agent_rows(batch, m)
        mask = rows[ACTION_MASK].numpy()
        assert 0 < mask.mean() < 1
        p = probabilities(space_of(learner, m), learner.dist_inputs(m, rows))
        assert (p[~mask] == 0.0).all() and (p[mask] > 0).all()
        unmasked = probabilities(space_of(learner, m), raw_logits(learner, m, batch))
        assert (unmasked[~mask] > 0).any()
        # Of what is allowed, the logits are the network's.
        np.testing.assert_allclose(
            learner.dist_inputs(m, rows).numpy()[mask], raw_logits(learner, m, batch)[mask], 1e-5
        )


@memories
@every_algorithm
def test_logged_entropy_is_that_of_what_is_allowed(name, memory):
    learner, runner = make(name, env_config={"dies": {"d": 3}}, memory=memory, num_epochs=1)
    (f,) = sample(runner, learner)
    batch = team_batch(learner, [f])
    expected, without = {}, {}
    for m in MASKED:
        alive = learner.agent_rows(batch, m)[ACTIVE].numpy() > 0
        for logged, logits in (
            (expected, np.where(f.action_masks[m], f.dist_inputs[m], -np.inf)[:, :, 0]),
            (without, None),
        ):
            if logits is None:
                p = probabilities(space_of(learner, m), raw_logits(learner, m, batch))
            else:
                with np.errstate(all="ignore"):
                    p = probabilities(space_of(learner, m), logits.swapaxes(0, 1))
                p = p.reshape(-1, p.shape[-1])
            terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)
            logged[m] = -terms.sum(-1)[alive].mean()
    notes = watch_notes(learner)
    update(learner, [f])
    for m in MASKED:
        # One agent's step moves nobody else's policy: this is the one that sampled.
        assert notes[m, "entropy"] == [pytest.approx(expected[m], abs=2e-5)]
        assert abs(without[m] - expected[m]) > 0.05


@batches
@every_algorithm
def test_logits_that_are_always_forbidden_have_no_gradient(name, minibatch_size, memory):
    learner, runner = make(name, Never, memory=memory, minibatch_size=minibatch_size)
    before = all_weights(learner)
    for _ in range(2):
        update(learner, sample(runner, learner))
    after = all_weights(learner)
    for m in MASKED:
        mask = forbid_first(space_of(learner, m)) > 0
        for part in ("head.weight", "head.bias"):
            same = (before[m, part] == after[m, part]).reshape(len(mask), -1).numpy()
            assert same[~mask].all(), (m, part)
            assert not same[mask].all(1).any(), (m, part)


@memories
@every_algorithm
def test_the_only_allowed_action_has_ratio_one(name, memory):
    learner, runner = make(name, Forced, memory=memory, lr=0.02)
    (f,) = sample(runner, learner)
    changes = watch_changes(learner)
    update(learner, [f])
    forced_steps = 0
    for m, change, rows in changes:
        if m == "a":
            continue
        starts = np.cumsum([0, *sizes(space_of(learner, m))[:-1]]).tolist()
        counts = torch.stack(
            [x.sum(-1) for x in rows[ACTION_MASK].tensor_split(starts[1:], -1)], -1
        )
        forced = (counts == 1).all(-1) & (rows[ACTIVE] > 0)
        assert (change.ratio[forced] == 1).all()
        entropy = change.dist.entropy(change.inputs)
        assert (entropy[forced] == 0).all() and (entropy[~forced & (rows[ACTIVE] > 0)] > 0).any()
        forced_steps += int(forced.sum())
    assert forced_steps > 0
    # And it says nothing to the agents after it.
    last = next(c for m, c, _ in reversed(changes) if m != "a")
    assert (last.ratio != 1).any()


@memories
def test_forced_steps_add_nothing_to_the_correction(memory):
    learner, runner = make(
        "HAPPO", Forced, memory=memory, lr=0.02, update_order=["b", "c", "d", "a"]
    )
    (f,) = sample(runner, learner)
    changes = watch_changes(learner)
    update(learner, [f])
    batch = {m: rows[CORRECTION] for m, _, rows in changes}
    masks = {m: f.action_masks[m][:, :, 0].swapaxes(0, 1).reshape(24, -1) for m in MASKED}
    forced = np.ones(24, bool)
    for m, after in zip("bcd", "cda", strict=True):
        parts = np.split(masks[m], np.cumsum(sizes(space_of(learner, m)))[:-1], 1)
        forced &= np.all([x.sum(1) == 1 for x in parts], 0)
        given = batch[after]
        if memory is not None:
            given = learner._units.put_back(given)
        given = given.numpy()
        assert (given[forced] == 1).all()
        if m == "b":
            assert forced.any() and (given[~forced] != 1).any()


@memories
def test_natural_gradients_see_masks(memory, monkeypatch):
    """Of logits that are forbidden, the KL and the Fisher matrix know nothing."""
    learner, runner = make("HATRPO", Never, memory=memory, cg_damping=0.0)
    products = {}

    def kept(product, gradient, **kwargs):
        products[len(products)] = (product(torch.ones_like(gradient)), gradient)
        return conjugate(product, gradient, **kwargs)

    conjugate = trust_region.conjugate_gradient
    monkeypatch.setattr(trust_region, "conjugate_gradient", kept)
    (f,) = sample(runner, learner)
    notes, changes = watch_notes(learner), watch_changes(learner)
    update(learner, [f])
    order = list(dict.fromkeys(m for m, _, _ in changes))
    for i, m in enumerate(order):
        if m == "a":
            continue
        mask = torch.from_numpy(forbid_first(space_of(learner, m)) > 0)
        where = flat(
            (torch.ones_like(p).reshape(len(p), -1) * ~mask[:, None]).reshape(p.shape)
            if name.startswith("head.")
            else torch.zeros_like(p)
            for name, p in learner.module[m].named_parameters()
        ).bool()
        for vector in products[i]:
            assert (vector[where] == 0).all() and (vector[~where] != 0).any(), m
    batch = team_batch(learner, [f])
    for m in MASKED:
        rows = learner.agent_rows(batch, m)
        space = space_of(learner, m)
        old = probabilities(space, f.dist_inputs[m][:, :, 0].swapaxes(0, 1).reshape(24, -1))
        new = probabilities(space, learner.dist_inputs(m, rows))
        allowed = rows[ACTION_MASK].numpy()
        ratio = np.where(allowed, old / np.where(allowed, new, 1.0), 1.0)
        kl = (old * np.log(ratio)).sum(-1).mean()
        assert notes[m, "mean_kl"] == [pytest.approx(kl, rel=1e-2, abs=1e-5)]
        assert kl > 1e-4


@every_algorithm
def test_masks_of_the_dead_matter_to_nobody(name):
    """They are all True in a fragment; that the action is allowed is all that counts."""
    learner, runner = make(name, env_config={"dies": {"b": 2, "c": 3}})
    (f,) = sample(runner, learner)
    dead = {m: ~f.active[m] for m in "bc"}
    assert all(f.action_masks[m][x].all() for m, x in dead.items())
    other = copy.deepcopy(f)
    for m, x in dead.items():
        taken = f.actions[m][x].reshape(x.sum(), -1)
        allowed = [np.eye(n)[taken[:, k]] for k, n in enumerate(sizes(space_of(learner, m)))]
        other.action_masks[m][x] = np.concatenate(allowed, -1) > 0
        assert not other.action_masks[m][x].all()
    results = []
    for fragment in (f, other):
        learner = make_learner(learner.config)
        update(learner, [fragment])
        results.append(all_weights(learner))
    assert all(torch.equal(x, results[1][k]) for k, x in results[0].items())


@memories
def test_agents_that_share_a_masked_network(memory):
    env = {"agents": {"a": (2, "box"), "b": (3, "multi"), "c": (3, "multi")}}
    for cls in (HAPPOConfig, HATRPOConfig):
        config = small_config(
            cls, MaskedTeam, env, sharing={"bc": ["b", "c"]}, model={"recurrent": memory}
        )
        learner, runner = make_learner(config), make_runner(config)
        for _ in range(2):
            update(learner, sample(runner, learner))
        batch = team_batch(learner, sample(runner, learner))
        assert batch["bc"][ACTION_MASK].shape == batch["bc"][Columns.ACTION_DIST_INPUTS].shape
        assert all(torch.isfinite(x).all() for x in all_weights(learner).values())
