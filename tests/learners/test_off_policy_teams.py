"""Teams of unequal agents: who is updated when, and beside which actions of the others."""

import copy

import numpy as np
import pytest
import torch
from off_policy_toys import SlowOffPolicyTeam, cross_critics, off_policy_config, update
from toys import CountingTeam, MaskedTeam, all_weights, make_learner, make_runner, sample

from rllib_hetero import (
    HADDPGConfig,
    HASACConfig,
    HATD3Config,
    MADDPGConfig,
    MASACConfig,
    MATD3Config,
)

METHODS = {
    "haddpg": (HADDPGConfig, "ddpg", True),
    "hatd3": (HATD3Config, "td3", True),
    "hasac": (HASACConfig, "sac", True),
    "maddpg": (MADDPGConfig, "ddpg", False),
    "matd3": (MATD3Config, "td3", False),
    "masac": (MASACConfig, "sac", False),
}
every_method = pytest.mark.parametrize("method", METHODS)
sequential_ones = pytest.mark.parametrize("method", ["haddpg", "hatd3", "hasac"])

# With a state of its own, the critic does not see what stands in place of a dead agent.
DYING = {"state": True, "dies": {"a": 2, "b": 3}, "end": "alternate"}
EQUAL = {"agents": dict.fromkeys("abc", (3, "box")), "dies": {"b": 3}, "end": "alternate"}


def config_of(method, env_config=DYING, env=CountingTeam, **settings):
    return off_policy_config(METHODS[method][0], env, env_config, **settings)


def slow_copy(learner, method, **kwargs):
    _, kind, sequential = METHODS[method]
    return SlowOffPolicyTeam(learner, kind, sequential=sequential, **kwargs)


def run(method, *args, frozen=(), **settings):
    """The learner and the slow team after 12 updates, with the initial weights."""
    config = config_of(method, *args, **settings)
    if frozen:
        config.multi_agent(policies_to_train=sorted(set(config.layout.groups) - set(frozen)))
    learner, runner = make_learner(config), make_runner(config)
    cross_critics(learner)
    slow, before = slow_copy(learner, method, frozen=frozen), all_weights(learner)
    for _ in range(3):
        fragments = sample(runner, learner)
        update(learner, fragments, 4)
        slow.update(fragments, 4)
    if len(frozen) < 3:  # Else no actor asks a critic.
        slow.assert_minimum_matters()
    return learner, slow, before


def moved(before, learner):
    """How far each module has gone."""
    after = all_weights(learner)
    gone = {}
    for (m, name), x in before.items():
        gone[m] = max(gone.get(m, 0.0), float((x - after[m, name]).abs().max()))
    return gone


@pytest.mark.parametrize("env", [CountingTeam, MaskedTeam])
@every_method
def test_unequal_agents_are_updated_as_the_papers_say(method, env):
    """Box, Discrete and MultiDiscrete actions; two agents die; the order is random."""
    learner, slow, before = run(method, DYING, env, policy_delay=1)
    assert all(x > 3e-3 for x in moved(before, learner).values())
    slow.assert_same(learner)


@every_method
def test_unequal_agents_without_a_global_state(method):
    learner, slow, _ = run(method, {"dies": {"b": 3}}, n_step=2)
    slow.assert_same(learner)


@pytest.mark.parametrize("order", ["cyclic", "reverse", ["b", "c", "a"]])
@sequential_ones
def test_the_order_may_be_given(method, order):
    learner, slow, _ = run(method, update_order=order, policy_delay=1)
    expected = {"cyclic": ["a", "b", "c"], "reverse": ["c", "b", "a"]}
    expected = expected[order] if isinstance(order, str) else order
    assert [a for update, a, _ in slow.entered if update == 5] == expected
    slow.assert_same(learner)


@sequential_ones
def test_an_actor_may_take_several_steps(method):
    learner, slow, _ = run(method, actor_num_epochs=3)
    slow.assert_same(learner)


@pytest.mark.parametrize("sharing", ["full", {"ends": ["a", "c"]}], ids=["full", "group"])
@every_method
def test_agents_that_share_a_network(method, sharing):
    learner, slow, before = run(method, EQUAL, sharing=sharing, policy_delay=1)
    assert all(x > 3e-3 for x in moved(before, learner).values())
    slow.assert_same(learner)


@pytest.mark.parametrize("frozen", ["b", "abc"])
@every_method
def test_frozen_policies_act_and_stand_still(method, frozen):
    learner, slow, before = run(method, frozen=frozen, policy_delay=1)
    after = all_weights(learner)
    for (m, name), x in before.items():
        # Their targets still approach them.
        if m in frozen and "target" not in name:
            assert torch.equal(x, after[m, name]), (m, name)
    assert moved(before, learner)["critic"] > 3e-3
    slow.assert_same(learner)


# ---- beside which actions -----------------------------------------------------------------------


def judged(learner, fragments):
    """For each actor step of one update: its agent and everyone's actions, before and in it."""
    steps = []
    actor_value = learner.actor_value

    def watched(agent, state, actions, own):
        parts = actions.detach().split(2, -1)
        steps.append((agent, dict(zip("abc", parts, strict=True))))
        return actor_value(agent, state, actions, own)

    learner.actor_value = watched
    batches = []
    update_on = learner.update_on
    learner.update_on = lambda batch: batches.append(batch) or update_on(batch)
    before = copy.deepcopy(learner.module)
    update(learner, fragments, 1)
    (batch,) = batches
    return steps, batch, actions_of(before, batch), actions_of(learner.module, batch)


def actions_of(module, batch):
    with torch.no_grad():
        return {
            m: module[m].forward_train({"obs": batch.observations[m][:, 0]})[
                "action_dist_inputs"
            ][:, :2]
            for m in "abc"
        }  # fmt: skip


def learner_and_data(method, **settings):
    env_config = {"agents": dict.fromkeys("abc", (3, "box"))}
    config = config_of(method, env_config, lr=0.05, **settings)
    learner = make_learner(config)
    return learner, sample(make_runner(config), learner)


@pytest.mark.parametrize("method", ["haddpg", "hatd3"])
def test_predecessors_act_by_their_new_policies_and_successors_by_their_old(method):
    learner, data = learner_and_data(method, update_order=["c", "a", "b"])
    steps, batch, old, new = judged(learner, data)
    assert [agent for agent, _ in steps] == ["c", "a", "b"]
    for i, (_, actions) in enumerate(steps):
        for j, agent in enumerate("cab"):
            expected = new if j < i else old
            torch.testing.assert_close(actions[agent], expected[agent])
            assert (old[agent] - new[agent]).abs().max() > 1e-2
            assert (actions[agent] - batch.actions[agent][:, 0]).abs().max() > 1e-2


def test_no_action_is_computed_that_nobody_is_judged_beside(monkeypatch):
    learner, data = learner_and_data("haddpg")
    acted, own_action = [], type(learner).own_action
    monkeypatch.setattr(
        type(learner), "own_action", lambda *args: acted.append(args[2]) or own_action(*args)
    )
    update(learner, data, 1)
    agents = learner.config.layout.team.agents
    # All agents' first actions, and the new ones of all but the last.
    assert acted[: len(agents)] == list(agents)
    assert len(set(acted[len(agents) :])) == len(acted[len(agents) :]) == len(agents) - 1


@pytest.mark.parametrize("method", ["maddpg", "matd3"])
def test_simultaneous_ones_are_judged_beside_the_replayed_actions(method):
    learner, data = learner_and_data(method)
    steps, batch, old, _ = judged(learner, data)
    assert sorted(agent for agent, _ in steps) == ["a", "b", "c"]
    for own, actions in steps:
        for agent in "abc":
            replayed = batch.actions[agent][:, 0]
            torch.testing.assert_close(actions[agent], old[agent] if agent == own else replayed)
            assert (old[agent] - replayed).abs().max() > 1e-2


# ---- the dead -----------------------------------------------------------------------------------


def with_garbage(f):
    """A copy with other numbers wherever an agent is dead."""
    f, rng = copy.deepcopy(f), np.random.default_rng(0)
    places = [(f.active, f.observations), (f.finals.active, f.finals.observations)]
    places.append((f.last_active, f.last_observations))
    for active, observations in places:
        for i, (m, alive) in enumerate(active.items()):
            # The same at all times: a fragment goes on with what the one before ended with.
            observations[m][~alive] = 1.5 + i
    for m, alive in f.active.items():
        actions = f.actions[m]
        if actions.dtype.kind == "f":
            actions[~alive] = rng.normal(size=actions[~alive].shape)
        else:  # Of every component, the second choice or the first.
            actions[~alive] = rng.integers(2, size=actions[~alive].shape)
    return f


@pytest.mark.parametrize("n_step", [1, 3])
@every_method
def test_what_stands_in_rows_of_the_dead_changes_nothing(method, n_step):
    config = config_of(method, DYING, MaskedTeam, n_step=n_step, policy_delay=1)
    learner, runner = make_learner(config), make_runner(config)
    data = [sample(runner, learner) for _ in range(2)]
    results = []
    for change in (copy.copy, with_garbage):
        learner = make_learner(config)
        for (f,) in data:
            assert all(not f.active[m].all() and f.active[m].any() for m in "ab")
            update(learner, [change(f)], 4)
        results.append(all_weights(learner))
    one, two = results
    different = [k for k, x in one.items() if not torch.equal(x, two[k])]
    assert not different, different


@every_method
def test_a_team_that_is_dead_all_the_time_trains_its_critic_alone(method):
    config = config_of(method, {"state": True}, policy_delay=1)
    learner = make_learner(config)
    (f,) = sample(make_runner(config), learner)
    for alive in (*f.active.values(), *f.last_active.values(), *f.finals.active.values()):
        alive[:] = False
    before = all_weights(learner)
    update(learner, [f], 3)
    gone = moved({k: x for k, x in before.items() if "target" not in k[1]}, learner)
    assert gone.pop("critic") > 1e-3
    assert not any(gone.values())
    assert torch.equal(before.get(("critic", "log_alpha"), x := torch.zeros(3)),
                       all_weights(learner).get(("critic", "log_alpha"), x))  # fmt: skip
