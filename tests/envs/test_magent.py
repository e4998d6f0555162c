"""Battles of MAgent2."""

import os
import sys

import numpy as np
import pytest
from battles import LEFT, RIGHT, act, assault, made, put, scripted, storm
from gymnasium.spaces import Box, Discrete

from rllib_hetero import TeamError, check_env
from rllib_hetero.envs.magent.engine import STAY, THEIRS

battle_v4 = pytest.importorskip("magent2.environments.battle_v4")

# --- Against magent2's own environment -----------------------------------------------------------


def as_ours(seen, minimap_mode):
    """An observation (13, 13, c) of magent2's own environment."""
    if not minimap_mode:
        return seen.ravel()
    return np.concatenate([seen[..., :-2].ravel(), seen[0, 0, -2:]])


def slow_state(theirs, map_size, size):
    """The state from magent2's own map of everything, cell by cell."""
    everything = theirs.state()
    state = np.zeros((10, 10, 4))
    for x, y in np.argwhere(everything[..., 1] + everything[..., 3]):
        _, ours, health, enemy, strength = everything[x, y]
        state[y * 10 // map_size, x * 10 // map_size] += [ours, health, enemy, strength]
    return (state * 100 / size).ravel()


@pytest.mark.parametrize(("map_size", "minimap_mode"), [(20, False), (20, True), (33, False)])
def test_whole_episodes_agree_with_magent2s_own_environment(map_size, minimap_mode):
    env, script = scripted(map_size, minimap_mode=minimap_mode, max_cycles=120)
    theirs = battle_v4.parallel_env(map_size=map_size, max_cycles=120, minimap_mode=minimap_mode)
    red = env.team.agents
    blue = [f"blue_{i}" for i in range(len(red))]
    assert theirs.possible_agents == [*red, *blue]
    rng = np.random.default_rng(map_size)
    deaths = steps = 0
    for episode in range(3):
        seen, _ = theirs.reset(seed=episode)
        # What the library gets wrong: it counts the armies before they are there, and then gives
        # blue the actions of red in the first step.
        theirs.team_sizes = [theirs.env.get_num(h) for h in theirs.handles]
        env.reset([0], [episode])
        over = False
        while not over:
            alive = [a in seen for a in red]
            np.testing.assert_array_equal(env.active[0], alive)
            for i, a in enumerate(red):
                expected = as_ours(seen[a], minimap_mode) if alive[i] else 0.0
                np.testing.assert_array_equal(env.observations[a][0], expected)
            if not minimap_mode:
                expected = slow_state(theirs, map_size, len(red))
                np.testing.assert_allclose(env.state[0], expected, atol=1e-4)
            views = {a: seen.get(a, np.zeros_like(seen[next(iter(seen))])) for a in [*red, *blue]}
            ours = assault(rng, np.stack([views[a] for a in red]), RIGHT)
            script.actions = assault(rng, np.stack([views[a] for a in blue]), LEFT)
            outcome = act(env, ours[None])
            everybody = zip([*red, *blue], [*ours, *script.actions], strict=True)
            seen, rewards, ended, _, _ = theirs.step(
                {a: u for a, u in everybody if a in theirs.agents}
            )
            expected = [rewards.get(a, 0.0) for a in red]
            np.testing.assert_allclose(outcome.rewards[0], expected, atol=1e-6)
            over = not theirs.agents
            assert outcome.terminated[0] == (over and all(ended.values()))
            assert outcome.truncated[0] == (over and not all(ended.values()))
            seen = {a: x for a, x in seen.items() if a in theirs.agents}
            steps += 1
        left = env.episode_metrics([0])
        deaths += len(red) - left["allies_left"][0]
    assert deaths > 2 and steps > 100  # so the comparison was about something


# --- The team ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("map_size", "agents"), [(12, 2), (20, 12), (40, 64), (45, 81), (80, 256)])
def test_the_map_decides_the_number_of_agents(map_size, agents):
    env = made([0], map_size=map_size)
    assert env.team.agents == tuple(f"red_{i}" for i in range(agents))
    assert env.episode_metrics([0])["enemies_left"] == agents
    # Nothing else depends on it, so that weights fit everywhere.
    assert set(map(str, env.team.observation_spaces.values())) == {
        str(Box(0.0, 2.0, (845,), np.float32))
    }
    assert set(map(str, env.team.action_spaces.values())) == {str(Discrete(21))}
    assert env.team.state_space.shape == (400,)
    assert env.team.reward_scheme == "individual" and not env.team.masked


def test_without_a_state_the_critic_sees_all_observations():
    env = made([0], state=None)
    assert env.state is None and env.team.critic_space.shape == (12 * 845,)


def test_the_state_counts_each_team_once():
    env = made([0], map_size=45)
    assert env.state[0].reshape(-1, 4).sum(0) == pytest.approx([100.0] * 4, abs=0.01)


def test_check_env_finds_nothing():
    env_config = {"scenario": "battle", "map_size": 20, "max_cycles": 60}
    report = check_env("magent", env_config=env_config, steps=200, num_envs=3)
    assert report.ok and not [f for f in report.findings if f.severity == "warning"], report


# --- Rewards -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "standing", "hitting_air"),
    [
        ({}, -0.005, -0.105),
        ({"step_reward": 0.5, "attack_penalty": -2}, 0.5, -1.5),
    ],
)
def test_rewards_of_steps_and_attacks(settings, standing, hitting_air):
    env = made([0], opponent="idle", **settings)
    np.testing.assert_allclose(act(env, [[STAY] * 12]).rewards, standing, atol=1e-6)
    np.testing.assert_allclose(act(env, [[13] * 12]).rewards, hitting_air, atol=1e-6)


def test_a_fight_to_the_death():
    env = made([0], opponent="idle", map_size=12, attack_opponent_reward=0.7)
    put(env._engines[0], (5, 5), (6, 5))
    env.active[0] = [True, False]
    hit_right = 17
    for _ in range(4):
        outcome = act(env, [[hit_right, STAY]])
        assert outcome.rewards[0].tolist() == pytest.approx([0.7 - 0.105, 0.0], abs=1e-6)
        assert not outcome.terminated[0]
    # Wounds heal by a tenth of a point a step, so the fifth blow of 2 points does not kill.
    act(env, [[hit_right, STAY]])
    outcome = act(env, [[hit_right, STAY]])
    assert outcome.rewards[0, 0] == pytest.approx(5.0 - 0.105, abs=1e-6)
    assert outcome.terminated[0] and not outcome.truncated[0]
    assert {k: v[0] for k, v in env.episode_metrics([0]).items()} == {
        "win_rate": 1.0,
        "allies_left": 1.0,
        "enemies_left": 0.0,
    }


def test_the_dead_are_paid_once_and_act_no_more():
    env, script = scripted(20)
    env.reset([0], [0])
    rng = np.random.default_rng(0)
    alive = np.ones(12, bool)
    dead = 0
    for _ in range(300):
        views = env._engines[0].views(THEIRS).reshape(-1, 13, 13, 5)
        script.actions[env._engines[0].ids(THEIRS)] = assault(rng, views, LEFT)
        outcome = act(env, [[RIGHT] * 12])
        died = alive & ~env.active[0]
        dead += died.sum()
        np.testing.assert_allclose(outcome.rewards[0, died], -0.1, atol=1e-6)
        np.testing.assert_array_equal(outcome.rewards[0, ~alive], 0.0)
        alive = env.active[0].copy()
        views = np.stack([env.observations[a][0] for a in env.team.agents])
        assert not views[~alive].any()
        assert (views[alive].max(1) > 0).all()
        if outcome.terminated[0]:
            break
    assert dead > 3
    env.reset([0], [0])
    assert env.active.all()


# --- Episodes ------------------------------------------------------------------------------------


def test_battles_are_cut_in_time():
    env = made([0, 0], max_cycles=3)
    for expected in (False, False, True):
        outcome = act(env, np.full((2, 12), STAY))
        assert (outcome.truncated == expected).all() and not outcome.terminated.any()
    assert (env.episode_metrics([0, 1])["win_rate"] == 0.0).all()  # a draw is no victory


def played(env, steps=25):
    """What is seen, paid and alive in each step, of all environments."""
    rng = np.random.default_rng(0)
    history = []
    for _ in range(steps):
        rewards = act(env, [storm(rng, env, e) for e in range(env.num_envs)]).rewards
        history += [env._views.copy(), env.state.copy(), rewards]
    return history


def test_a_seed_decides_the_battle():
    one, other = played(made([1, 2])), played(made([1, 2]))
    for x, y in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, y)
    different = played(made([3, 2]))
    assert any((x[0] != y[0]).any() for x, y in zip(one, different, strict=True))


def test_environments_do_not_disturb_each_other():
    env = made([1, 2])
    rng = np.random.default_rng(0)
    for _ in range(3):
        act(env, rng.integers(21, size=(2, 12)))
    before = env.observations["red_3"][1].copy(), env.state[1].copy()
    env.reset([0], [7])
    np.testing.assert_array_equal(env.observations["red_3"][1], before[0])
    np.testing.assert_array_equal(env.state[1], before[1])
    np.testing.assert_array_equal(env.state[0], made([9]).state[0])  # armies line up alike


def test_a_picture_shows_both_teams_where_they_are():
    env = made([0], map_size=40, render_mode="rgb_array")
    picture = env.render()
    assert picture.shape == (480, 480, 3) and picture.dtype == np.uint8
    small = picture[6::12, 6::12].astype(int)
    red = np.argwhere(small[..., 0] > small[..., 2] + 50)
    blue = np.argwhere(small[..., 2] > small[..., 0] + 50)
    assert len(red) == len(blue) == 64
    assert red[:, 1].max() < blue[:, 1].min()
    with pytest.raises(TeamError, match="render_mode"):
        made([0]).render()


def test_the_number_of_threads_is_left_as_it_is(monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "magent2"]:
        monkeypatch.delitem(sys.modules, name)  # so that it is imported once more
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made([0])
    assert "OMP_NUM_THREADS" not in os.environ
