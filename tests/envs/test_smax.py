"""SMAX: jaxmarl's battles, many at once."""

import importlib.util
import sys

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from ray.rllib.env.env_context import EnvContext

from rllib_hetero import HAPPOConfig, MissingExtraError, TeamError
from rllib_hetero.envs import make_smax
from rllib_hetero.envs.smax import MAPS, SETTINGS

MAP = "3m"  # the smallest: compiling takes most of the time of these tests
STOP = 4


@pytest.fixture(scope="module")
def jaxmarl_smax():
    pytest.importorskip("jaxmarl")
    from jaxmarl.environments import smax

    return smax


@pytest.fixture(scope="module")
def shared(jaxmarl_smax):
    """Battles by (E, max_steps), compiled once; every test resets all of them first."""
    made = {}

    def get(num_envs, max_steps=100):
        key = (num_envs, max_steps)
        if key not in made:
            settings = {"map": MAP, "max_steps": max_steps, "render_mode": "rgb_array"}
            made[key] = make_smax({**settings, "num_envs": num_envs})
        return made[key]

    return get


def started(env, seeds):
    env.reset(range(env.num_envs), seeds)
    return env


def random_actions(env, rng):
    """Uniform among what the masks allow, agent id to (E,)."""
    return {
        a: np.array([rng.choice(np.flatnonzero(row)) for row in env.masks[a]])
        for a in env.team.agents
    }


def fighting(env, rng):
    """Shoot if an enemy is in range, else mostly go east, where the enemies are."""
    actions = random_actions(env, rng)
    for a, chosen in actions.items():
        masks = env.masks[a]
        shoots = masks[:, STOP + 1 :].any(1)
        target = STOP + 1 + masks[:, STOP + 1 :].argmax(1)
        east = np.where(rng.random(len(chosen)) < 0.7, 1, chosen)
        actions[a] = np.where(shoots, target, east)
    return actions


def standing(env):
    return {a: np.full(env.num_envs, STOP) for a in env.team.agents}


def looks(env, e):
    """Copies of all that is seen of environment e."""
    arrays = [env.state, env.active, *env.observations.values(), *env.masks.values()]
    return [x[e].copy() for x in arrays]


def assert_equal(some, others):
    for x, y in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, y)


# --- Against jaxmarl's own environment ---------------------------------------------------------


def test_whole_battles_agree_with_jaxmarl(jaxmarl_smax, shared):
    import jax

    theirs = jaxmarl_smax.HeuristicEnemySMAX(scenario=jaxmarl_smax.map_name_to_scenario(MAP))
    env, n = shared(3), MAPS[MAP][0]
    ended = set()
    for seed in (0, 1):
        started(env, [seed, seed + 10, seed + 20])
        rng = np.random.default_rng(seed)
        key, reset_key = jax.random.split(jax.random.PRNGKey(seed))
        observations, state = theirs.reset(reset_key)
        alive = np.ones(n, bool)
        for _ in range(100):
            masks = theirs.get_avail_actions(state)
            np.testing.assert_array_equal(env.active[0], alive)
            np.testing.assert_allclose(
                env.state[0], observations["world_state"], rtol=1e-5, atol=1e-5
            )
            for i, a in enumerate(env.team.agents):
                np.testing.assert_allclose(
                    env.observations[a][0], observations[a], rtol=1e-5, atol=1e-5
                )
                allowed = masks[a] > 0 if alive[i] else np.ones(STOP + 4)
                np.testing.assert_array_equal(env.masks[a][0], allowed)
            actions = fighting(env, rng)
            key, step_key = jax.random.split(key)
            outcome = env.step(actions)
            observations, state, rewards, done, info = theirs.step_env(
                step_key, state, {a: int(x[0]) for a, x in actions.items()}
            )
            for i, a in enumerate(env.team.agents):
                reward = rewards[a] if alive[i] else 0.0
                np.testing.assert_allclose(outcome.rewards[0, i], reward, rtol=1e-5, atol=1e-6)
            alive = np.array([not done[a] for a in env.team.agents])
            over = bool(done["__all__"])
            assert over == (outcome.terminated[0] or outcome.truncated[0])
            assert info == {}  # why episode_metrics looks at the units
            if over:
                ended.add(seed)
                break
    assert ended == {0, 1}


def test_sizes_and_defaults_are_jaxmarls(jaxmarl_smax):
    import inspect

    for name, (n, m) in MAPS.items():
        theirs = jaxmarl_smax.HeuristicEnemySMAX(scenario=jaxmarl_smax.map_name_to_scenario(name))
        assert (theirs.num_allies, theirs.num_enemies) == (n, m)
        team = make_smax({"map": name}).team
        assert team.agents == tuple(theirs.agents)
        for a in team.agents:
            assert team.observation_spaces[a].shape == theirs.observation_spaces[a].shape
            assert team.action_spaces[a].n == theirs.action_spaces[a].n
        assert team.state_space.shape == (theirs.state_size,)
    defaults = {
        name: parameter.default
        for cls in (jaxmarl_smax.SMAX, jaxmarl_smax.HeuristicEnemySMAX)
        for name, parameter in inspect.signature(cls).parameters.items()
    }
    theirs = {key: defaults[key] for key in SETTINGS}
    assert {**theirs, "max_steps": theirs["max_steps"] + 1} == SETTINGS


# --- Episodes ----------------------------------------------------------------------------------


def test_an_agent_that_dies_is_out_of_it(shared):
    env = started(shared(3), [0, 1, 2])
    rng = np.random.default_rng(0)
    deaths = 0
    for _ in range(100):
        acted = env.active.copy()
        outcome = env.step(fighting(env, rng))
        over = outcome.terminated | outcome.truncated
        assert not (env.active & ~acted).any()
        assert not outcome.rewards[~acted].any()
        for rewards, was in zip(outcome.rewards, acted, strict=True):
            assert len(set(rewards[was].tolist())) == 1  # one reward for all that acted
        for i, a in enumerate(env.team.agents):
            dead = ~env.active[:, i]
            assert not env.observations[a][dead].any()
            assert env.masks[a][dead].all()
            assert env.observations[a][~dead].any(1).all()
        deaths += int((acted & ~env.active & ~over[:, None]).sum())
        if over.any():
            env.reset(np.flatnonzero(over), [None] * int(over.sum()))
            assert env.active[over].all()
    assert deaths >= 5


def test_what_a_dead_agent_does_changes_nothing(shared):
    env, checked = shared(3), 0
    rng = np.random.default_rng(3)
    started(env, [0, 0, 1])
    for _ in range(60):
        actions = fighting(env, rng)
        for i, a in enumerate(env.team.agents):
            actions[a][1] = actions[a][0]  # battles 0 and 1 are the same
            if not env.active[0, i]:
                actions[a][:2] = (STOP + 1, 99)
                checked += 1
        outcome = env.step(actions)
        assert_equal(looks(env, 0), looks(env, 1))
        assert_equal(outcome.rewards[:1], outcome.rewards[1:2])
        over = outcome.terminated | outcome.truncated
        if over[0]:
            break
    assert checked > 0


def test_a_battle_cut_for_time_keeps_its_final_observations(shared):
    env = started(shared(2, max_steps=6), [0, 1])
    for _ in range(2):
        env.step(standing(env))
    env.reset([1], [7])
    for truncated in ([False] * 2, [False] * 2, [False] * 2, [True, False]):
        before = looks(env, 0)
        outcome = env.step(standing(env))
        assert outcome.truncated.tolist() == truncated
        assert not outcome.terminated.any() and not outcome.failed.any()
    final = looks(env, 0)
    # The enemies have come closer since, and are not where a battle begins.
    enemies_x = slice(3 * 10 + 1, 6 * 10, 10)
    assert (final[0][enemies_x] < before[0][enemies_x]).any()
    env.reset([0], [0])
    assert not np.array_equal(looks(env, 0)[0], final[0])
    for truncated in ([False] * 2, [False, True]):
        assert env.step(standing(env)).truncated.tolist() == truncated


def test_victory_and_defeat_are_counted_by_hand(shared):
    env = started(shared(3), [0, 1, 2])
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(400):
        fights, stands = fighting(env, rng), standing(env)
        # Two battles fight, one stands still and loses.
        outcome = env.step({a: np.r_[fights[a][:2], stands[a][2:]] for a in fights})
        over = np.flatnonzero(outcome.terminated | outcome.truncated)
        for e in over:
            units = env.state[e].reshape(-1)[: 6 * 10].reshape(6, 10)  # health first, 0 if dead
            allies, enemies = (units[:3, 0] > 0).sum(), (units[3:, 0] > 0).sum()
            metrics = {name: x.tolist() for name, x in env.episode_metrics([e]).items()}
            assert metrics == {
                "win_rate": [float(enemies == 0 and allies > 0)],
                "dead_allies": [3 - allies],
                "dead_enemies": [3 - enemies],
            }
            assert outcome.terminated[e] == (allies == 0 or enemies == 0)
            if metrics["win_rate"] == [1.0]:
                assert outcome.rewards[e].max() > 1.0  # the bonus, and the last damage
            seen.add(metrics["win_rate"][0])
        if len(over):
            env.reset(over, [None] * len(over))
    assert seen == {0.0, 1.0}
    assert env.episode_metrics([0, 2])["win_rate"].shape == (2,)


def test_one_dead_side_ends_a_battle_and_two_are_no_victory():
    env = make_battles_without_simulator()
    env._alive[:] = [
        [True, False, False, False, False, False],
        [False, False, False, False, True, True],
        [False, False, False, False, False, False],
        [True, True, True, False, True, False],
    ]
    metrics = env.episode_metrics([0, 1, 2, 3])
    assert metrics["win_rate"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert metrics["dead_allies"].tolist() == [2.0, 3.0, 3.0, 0.0]
    assert metrics["dead_enemies"].tolist() == [3.0, 1.0, 3.0, 2.0]


def make_battles_without_simulator(num_envs=4):
    from rllib_hetero.envs.smax.battles import SMAXBattles

    options = dict(SETTINGS)
    return SMAXBattles(MAP, 3, 3, options=options, render_mode=None, num_envs=num_envs)


# --- Seeds, independence, compilation ----------------------------------------------------------


def test_a_battle_follows_from_its_seed_alone(shared):
    few, many = started(shared(3), [7, 8, 9]), started(shared(11), [8, 1, 7, *range(8)])
    rng = np.random.default_rng(0)
    steps = 0
    while many.active[[0, 2]].all() and steps < 40:
        steps += 1
        actions = fighting(many, rng)
        rewards = many.step(actions).rewards
        few_rewards = few.step({a: x[[2, 0, 1]] for a, x in actions.items()}).rewards
        np.testing.assert_allclose(few_rewards[:2], rewards[[2, 0]], rtol=1e-5, atol=1e-6)
        for e, f in ((2, 0), (0, 1)):
            for x, y in zip(looks(many, e), looks(few, f), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)
    assert steps > 3
    assert not np.array_equal(few.state[0], few.state[1])


def test_a_reset_leaves_the_other_battles_alone(shared):
    env = shared(3)

    def play(disturbed):
        started(env, [3, 4, 5])
        rng = np.random.default_rng(0)
        history = []
        for t in range(15):
            # Drawn for all, whatever happens in battle 1.
            actions = {a: rng.integers(5, size=3) for a in env.team.agents}
            history.append(env.step(actions).rewards[[0, 2]])
            if disturbed and t % 3 == 0:
                before = looks(env, 1)
                env.reset([1], [t])
                assert not np.array_equal(looks(env, 1)[0], before[0])
            history += looks(env, 0) + looks(env, 2)
        return history

    assert_equal(play(False), play(True))


def test_many_resets_at_once_and_in_any_order(shared):
    # More than the compiled reset begins in one call.
    env = shared(11)
    seeds = list(range(11))
    env.reset(seeds, seeds)
    first = [looks(env, e) for e in seeds]
    env.reset(seeds[::-1], seeds)
    for e, seen in zip(seeds[::-1], first, strict=True):
        assert_equal(looks(env, e), seen)
    assert len({x[0].tobytes() for x in first}) == 11


def test_without_a_seed_the_next_battle_is_another_one(shared):
    env = started(shared(3), [3, 3, 4])
    first = env.state.copy()
    env.reset([0, 1], [None, None])
    assert not np.array_equal(env.state, first)
    np.testing.assert_array_equal(env.state[0], env.state[1])
    started(env, [3, 2**40 + 3, 4])
    np.testing.assert_array_equal(env.state[0], first[0])
    assert not np.array_equal(env.state[1], first[0])


def test_nothing_is_compiled_after_construction(shared):
    import jax

    env, compiled = shared(3), []

    def listen(name, *_, **__):
        if "backend_compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        started(env, [0, 1, 2])
        for _ in range(3):
            env.step(standing(env))
        env.reset([1], [None])
        env.step(standing(env))
        env.episode_metrics([0])
        assert compiled == []
        jax.jit(lambda x: x + 1)(1.0)
        assert compiled  # the listener hears
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# --- Teams, pictures, settings, training -------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    """As if jaxmarl were there, for what needs no more than that."""
    find = importlib.util.find_spec
    there = lambda name: object() if name == "jaxmarl" else find(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", there)


@pytest.mark.parametrize(
    ("name", "agents", "observations", "actions", "state"),
    [
        ("3m", 3, 75, 8, 72),
        ("2s3z", 5, 127, 10, 120),
        ("27m_vs_30m", 27, 738, 35, 684),
        ("smacv2_5_units", 5, 127, 10, 120),
        ("smacv2_10_units", 10, 257, 15, 240),
        ("smacv2_20_units", 20, 517, 25, 480),
    ],
)
def test_teams(name, agents, observations, actions, state, installed):
    team = make_smax({"map": name}).team
    assert team.agents == tuple(f"ally_{i}" for i in range(agents))
    box = Box(-np.inf, np.inf, (observations,), np.float32)
    assert list(team.observation_spaces.values()) == [box] * agents
    assert list(team.action_spaces.values()) == [Discrete(actions)] * agents
    assert team.state_space.shape == (state,)
    assert team.reward_scheme == "shared" and team.masked == set(team.agents)


def test_reading_the_spaces_neither_imports_jax_nor_compiles(installed, monkeypatch):
    for module in ("jax", "jaxmarl", "rllib_hetero.envs.smax.simulator"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it raises
    config = EnvContext({"map": MAP}, worker_index=0)
    env = make_smax(config)
    env.close()
    assert env.num_envs == 1 and dict(config) == {"map": MAP}


def test_pictures(shared):
    env = started(shared(3), [0, 1, 2])
    before = env.render()
    assert before.shape == (480, 480, 3) and before.dtype == np.uint8
    np.testing.assert_array_equal(env.render(), before)
    env.step(standing(env))
    assert (env.render() != before).any()
    with pytest.raises(TeamError, match='"render_mode": "rgb_array"'):
        make_battles_without_simulator().render()


@pytest.mark.parametrize(
    ("env_config", "named"),
    [
        ({}, "Unknown `map` None.*3m.*smacv2_20_units"),
        ({"map": "3M"}, "Unknown `map` '3M'"),
        ({"map": ["3m"]}, "Unknown `map`"),
        ({"map": MAP, "steps": 2}, r"does not know \['steps'\].*'map', 'max_steps'"),
        ({"map": MAP, "max_steps": 0}, "`max_steps` must be.*got 0"),
        ({"map": MAP, "max_steps": True}, "`max_steps` must be.*got True"),
        ({"map": MAP, "max_steps": 10.0}, "`max_steps` must be.*got 10.0"),
        ({"map": MAP, "attack_mode": "weakest"}, "`attack_mode` must be.*got 'weakest'"),
        ({"map": MAP, "attack_mode": None}, "`attack_mode` must be.*got None"),
        ({"map": MAP, "enemy_shoots": 1}, "`enemy_shoots` must be.*got 1"),
        ({"map": MAP, "see_enemy_actions": None}, "`see_enemy_actions` must be.*got None"),
        ({"map": MAP, "walls_cause_death": "no"}, "`walls_cause_death` must be.*got 'no'"),
        ({"map": MAP, "won_battle_bonus": "1"}, "`won_battle_bonus` must be.*got '1'"),
        ({"map": MAP, "won_battle_bonus": np.nan}, "`won_battle_bonus` must be.*got nan"),
        ({"map": MAP, "render_mode": "human"}, "`render_mode` must be.*got 'human'"),
    ],
)
def test_what_is_refused_names_the_setting(env_config, named):
    with pytest.raises(TeamError, match=named) as refused:
        make_smax(env_config)
    assert 'config.environment("smax", env_config={' in str(refused.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"Python 3\.11.*rllib_hetero\[smax\]"):
        make_smax({"map": MAP})


@pytest.mark.slow
def test_trains_by_name_with_a_remote_runner_and_evaluation(jaxmarl_smax, ray_local):
    algo = (
        HAPPOConfig()
        .environment("smax", env_config={"map": MAP, "max_steps": 10})
        .env_runners(num_env_runners=1, num_envs_per_env_runner=2)
        .evaluation(evaluation_interval=1, evaluation_duration=4, evaluation_num_env_runners=0)
        .learners(num_learners=0)
        .rl_module(model_config={"hidden_sizes": [16]})
        .training(train_batch_size_per_learner=80, num_epochs=1)
        .debugging(seed=0)
        .build_algo()
    )
    for _ in range(2):
        result = algo.train()
    algo.stop()
    for part in (result["env_runners"], result["evaluation"]["env_runners"]):
        assert 0.0 <= part["win_rate"] <= 1.0
        assert 0.0 <= part["dead_allies"] <= 3.0 and 0.0 <= part["dead_enemies"] <= 3.0
        assert 0 < part["episode_len_mean"] <= 10
    assert result["evaluation"]["env_runners"]["num_episodes"] == 4
    assert result["num_env_steps_sampled_lifetime"] == 160
    for agent in algo.config.layout.team.agents:
        assert np.isfinite(result["learners"][agent]["entropy"])
