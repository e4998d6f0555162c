"""With one agent the off-policy learners are DDPG, TD3 and SAC, to the parameter."""

import pytest
from off_policy_toys import SlowDDPG, SlowSAC, SlowTD3, cross_critics, off_policy_config, update
from toys import MaskedTeam, make_learner, make_runner, sample

from rllib_hetero import (
    HADDPGConfig,
    HASACConfig,
    HATD3Config,
    MADDPGConfig,
    MASACConfig,
    MATD3Config,
)

METHODS = {
    "haddpg": (HADDPGConfig, SlowDDPG),
    "hatd3": (HATD3Config, SlowTD3),
    "hasac": (HASACConfig, SlowSAC),
    "maddpg": (MADDPGConfig, SlowDDPG),
    "matd3": (MATD3Config, SlowTD3),
    "masac": (MASACConfig, SlowSAC),
}
SEQUENTIAL = ["haddpg", "hatd3", "hasac"]
every_method = pytest.mark.parametrize("method", METHODS)
sequential_ones = pytest.mark.parametrize("method", SEQUENTIAL)


def run(method, *, action="box", env=None, rounds=4, **settings):
    """Both learners after 20 updates, in four rounds of a fragment and five updates."""
    cls, slow_cls = METHODS[method]
    env_config = {"agents": {"only": (3, action)}, "length": 5, "end": "alternate"}
    args = (MaskedTeam,) if (env or {}).pop("masks", False) else ()
    config = off_policy_config(cls, *args, env_config={**env_config, **(env or {})}, **settings)
    learner, runner = make_learner(config), make_runner(config)
    cross_critics(learner)
    slow, before = slow_cls(learner), slow_cls(learner)
    for _ in range(rounds):
        fragments = sample(runner, learner)
        update(learner, fragments, 5)
        slow.update(fragments, 5)
    # The comparison says something: every network has gone a long way, and so have the targets.
    moved = before.differences(learner)
    assert all(x > 1e-3 for (_, name), x in moved.items() if name.endswith("weight")), moved
    slow.assert_minimum_matters()
    return slow, learner


@pytest.mark.parametrize("action", ["box", "discrete", "multi"])
@every_method
def test_it_is_the_single_agent_algorithm(method, action):
    slow, learner = run(method, action=action)
    assert set(slow.seen_ends) == {"terminated", "truncated", "open"}
    slow.assert_same(learner)


@pytest.mark.parametrize("end", ["truncate", "terminate"])
@sequential_ones
def test_returns_over_several_steps_end_where_episodes_do(method, end):
    slow, learner = run(method, env={"end": end, "length": 4}, n_step=3, gamma=0.9)
    assert slow.seen_ends["truncated" if end == "truncate" else "terminated"] > 50
    slow.assert_same(learner)


@sequential_ones
def test_actors_wait_for_their_turn_and_targets_for_theirs(method):
    slow, learner = run(method, policy_delay=3, target_network_update_freq=2)
    slow.assert_same(learner)


@sequential_ones
def test_targets_follow_the_actors_unless_told_otherwise(method):
    """Every other update with a delay of 2: of update 0 and of each second one behind it."""
    slow, learner = run(method, policy_delay=2, tau=0.5)
    slow.assert_same(learner)


@pytest.mark.parametrize("action", ["discrete", "multi"])
@sequential_ones
def test_forbidden_choices_take_no_part(method, action):
    slow, learner = run(method, action=action, env={"masks": True}, gumbel_temperature=0.7)
    slow.assert_same(learner)


@sequential_ones
def test_gradients_are_clipped_by_their_global_norm(method):
    slow, learner = run(method, grad_clip=0.3)
    slow.assert_same(learner)


@sequential_ones
def test_rows_that_the_replay_has_dropped_are_not_drawn(method):
    # 96 steps go through a replay of 30, in rings of 10 for each environment.
    slow, learner = run(method, replay_buffer_config={"capacity": 30})
    assert [len(column) for column in slow.replay.columns] == [10, 10, 10]
    assert len(learner.replay) == 30
    slow.assert_same(learner)


def test_smoothing_of_the_target_is_clipped():
    slow, learner = run("hatd3", target_noise=1.0, target_noise_clip=0.3)
    slow.assert_same(learner)


def test_temperature_is_fixed_without_a_learning_rate():
    slow, learner = run("hasac", alpha_lr=None, initial_alpha=0.2)
    assert not slow.optimizers["alpha"].state
    slow.assert_same(learner)


@pytest.mark.parametrize("target", ["auto", -3.0])
def test_temperature_goes_after_the_target_entropy(target):
    slow, learner = run("hasac", alpha_lr=0.01, target_entropy=target)
    slow.assert_same(learner)


def test_noise_of_exploration_follows_its_schedule_and_travels_with_the_weights():
    config = off_policy_config(
        HADDPGConfig, env_config={"agents": {"only": (3, "box")}},
        exploration_noise=[[0, 0.4], [100, 0.1]],
    )  # fmt: skip
    learner, runner = make_learner(config), make_runner(config)
    seen = []
    for env_steps in (0, 50, 100, 200):
        fragments = sample(runner, learner)
        (scale,) = {float(x) for x in fragments[0].dist_inputs["only"][..., -1].ravel()}
        seen.append(scale)
        update(learner, fragments, 1, env_steps=env_steps)
    assert seen == pytest.approx([0.4, 0.4, 0.25, 0.1])
    assert float(learner.module["only"].exploration) == pytest.approx(0.1)


def test_targets_are_no_part_of_a_graph():
    _, learner = run("hatd3")
    assert not any(t.requires_grad or t.grad_fn for t in learner._targets)
