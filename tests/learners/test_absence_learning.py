"""What agents that were absent for some steps learn, against slow ones that walk over the rows."""

import copy

import numpy as np
import pytest
import torch
from off_policy_toys import off_policy_config
from off_policy_toys import update as replay_update
from test_deaths import with_garbage
from toys import (
    SlowTeam,
    VisitingTeam,
    all_weights,
    make_learner,
    make_runner,
    sample,
    small_config,
    update,
    watch_changes,
)
from value_toys import SlowValueLearner

from rllib_hetero import ALGORITHMS, HAPPOConfig, HASACConfig, QMIXConfig
from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.modules.memory import Memory, forward_with_gaps

AWAY = {"a": {2}, "b": {0, 1, 4}, "c": {2, 3, 5}}  # In step 2 nobody acts but b.
NOBODY = {"a": {1, 4}, "b": {0, 1, 5}, "c": {1, 2, 3}}  # In step 1, nobody.
CASE = {"away": AWAY, "length": 7, "end": "alternate", "paid": True}


@pytest.mark.parametrize("away", [AWAY, NOBODY], ids=["some", "all"])
@pytest.mark.parametrize("scheme", ["individual", "shared"])
def test_happo_over_absences_is_the_slow_one(scheme, away):
    """Advantages run on over the gaps; ratios and gradients are of those that acted."""
    case = {**CASE, "away": away, "scheme": scheme}
    config = small_config(HAPPOConfig, VisitingTeam, case, update_order=["c", "b", "a"])
    learner, runner = make_learner(config), make_runner(config)
    slow = SlowTeam(learner)
    for _ in range(2):
        fragments = sample(runner, learner)
        assert not all(x.all() for x in fragments[0].active.values())
        update(learner, fragments)
        slow.update(fragments, order=["c", "b", "a"])
    assert slow.corrections["a"].std() > 1e-3
    slow.assert_same(learner)


@pytest.mark.parametrize("kept", ["keep", "reset"])
@pytest.mark.parametrize("name", ["HAPPO", "HATRPO", "BPPO", "COMA"])
def test_steps_of_the_absent_train_nobody(name, kept):
    """Nor do they disturb what an agent remembers: all that stands in them may be anything."""
    cls = type(ALGORITHMS[name].get_default_config())
    discrete = {"agents": {"a": (3, "discrete"), "b": (2, "discrete"), "c": (3, "discrete")}}
    config = small_config(
        cls, VisitingTeam, {**CASE, **discrete, "state": True},
        model={"recurrent": "gru", "max_seq_len": 3}, minibatch_size=7,
    )  # fmt: skip
    config.multi_agent(absent_memory=kept)
    config.validate()
    learner, runner = make_learner(config), make_runner(config)
    (f,) = sample(runner, learner)
    changes = watch_changes(learner)
    weights = []
    for fragment in (f, with_garbage(f, 1)):
        learner = make_learner(config)
        changes = watch_changes(learner)
        update(learner, [fragment])
        weights.append(all_weights(learner))
    assert all((c.ratio[rows[ACTIVE] == 0] == 1).all() for _, c, rows in changes)
    start = all_weights(make_learner(config))
    assert not torch.equal(weights[0]["a", "head.weight"], start["a", "head.weight"])
    for key, x in weights[0].items():
        torch.testing.assert_close(x, weights[1][key], rtol=0, atol=1e-7, msg=str(key))


@pytest.mark.parametrize("kept", ["keep", "reset"])
def test_qmix_over_absences_is_the_slow_one(kept):
    """From the replay: stretches with gaps, and next steps in which an agent is away."""
    team = {"agents": {"a": (2, "discrete"), "b": (3, "three"), "c": (2, "discrete")}}
    config = off_policy_config(
        QMIXConfig, VisitingTeam, {**CASE, **team}, epsilon=0.5, target_network_update_freq=2,
        gamma=0.9, lambda_=0.6,
        model={"hidden_sizes": [8, 8], "max_seq_len": 5, "recurrent": "gru",
               "mixing_embed_dim": 4, "hypernet_embed": 5},
    )  # fmt: skip
    config.multi_agent(absent_memory=kept)
    config.validate()
    learner, runner = make_learner(config), make_runner(config)
    slow = SlowValueLearner(learner, "monotonic")
    for _ in range(3):
        fragments = sample(runner, learner)
        replay_update(learner, fragments, 4)
        slow.update(fragments, 4)
    assert slow.seen["dead"] > 20
    slow.assert_same(learner)


def test_an_actor_critic_learns_nothing_from_rows_of_the_absent():
    config = off_policy_config(HASACConfig, VisitingTeam, {**CASE, "state": True})
    learner, runner = make_learner(config), make_runner(config)
    f, weights = sample(runner, learner)[0], []
    for fragment in (f, with_garbage(f, 1)):
        learner = make_learner(config)
        replay_update(learner, [copy.deepcopy(fragment)], 3)
        weights.append(all_weights(learner))
    for key, x in weights[0].items():
        torch.testing.assert_close(x, weights[1][key], rtol=0, atol=1e-7, msg=str(key))


@pytest.mark.parametrize("kept", [True, False])
def test_a_pass_with_gaps_is_one_step_after_another(kept):
    """Values and gradients, also of a sequence that is all gap."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    layer, other = Memory("gru", 3, 4), Memory("gru", 3, 4)
    other.load_state_dict(layer.state_dict())
    x, state, start = torch.randn(6, 8, 3), torch.randn(6, 4), torch.full((4,), 0.3)
    active = torch.from_numpy(rng.random((6, 8)) < 0.6)
    active[0], active[1], active[2, :2] = False, True, False

    def forward(observations, before):
        return layer(observations, {"h": before})[0]

    out = forward_with_gaps(forward, x, state, active.float(), None if kept else start)
    weight = torch.randn(6, 8, 4)
    (out * weight)[active].sum().backward()

    total = 0.0
    for n in range(6):
        memory = state[n]
        for t in range(8):
            if not active[n, t]:
                continue
            if not kept and t > 0 and not active[n, t - 1]:
                memory = start
            y, after = other(x[n, t][None, None], {"h": memory[None]})
            memory = after["h"][0]
            torch.testing.assert_close(out[n, t], y[0, 0], rtol=1e-5, atol=1e-6)
            total = total + (y[0, 0] * weight[n, t]).sum()
    total.backward()
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)
    layer.zero_grad()
    nobody = forward_with_gaps(forward, x, state, torch.zeros(6, 8), None if kept else start)
    nobody.sum().mul(0.0).backward()  # A learner may have nothing of an agent.
