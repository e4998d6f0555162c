"""Treasure collection and rover tower."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from ray.rllib.env.env_context import EnvContext
from slow_particles import SlowRovers, SlowTreasures

from rllib_hetero import HAPPOConfig, TeamError
from rllib_hetero.envs import make_cooperative_mpe
from rllib_hetero.envs.cooperative_mpe import SCENARIOS
from rllib_hetero.envs.cooperative_mpe.physics import contact_forces, move
from rllib_hetero.envs.particles import between

TREASURES, ROVERS = "treasure_collection", "rover_tower"


def started(scenario, seeds, **settings):
    num_envs = len(seeds)
    env = make_cooperative_mpe({"scenario": scenario, "num_envs": num_envs, **settings})
    env.reset(range(num_envs), seeds)
    return env


def act(env, actions):
    """Steps with actions (E, n)."""
    actions = np.asarray(actions)
    return env.step({a: actions[:, i] for i, a in enumerate(env.team.agents)})


def wait(env):
    return act(env, np.zeros(env.active.shape, int))


def put(env, **arrays):
    """Overwrites the inner state, of one environment: name without underscore to (...)."""
    for name, x in arrays.items():
        getattr(env, f"_{name}")[0] = x
    env._measure()
    env._observe([0])


def seen(env, e=0):
    """Environment e's observations, agents in order."""
    return [env.observations[a][e] for a in env.team.agents]


# --- Against another implementation ----------------------------------------------------------


def slow_version(env, e):
    if env.team.agents[0] == "rover_0":
        goals = env._landmark[e][env._goal[e]]
        return SlowRovers(env._position[e], env._tower_of[e], goals)
    hunters = env._holding.shape[1]
    treasures = [(*x, int(c)) for x, c in zip(env._treasure[e], env._colour[e], strict=True)]
    return SlowTreasures(env._position[e, :hunters], env._position[e, hunters:], treasures)


def chase(slow, rng):
    """Random actions, but hunters mostly run to where they get a reward."""
    actions = rng.integers(5, size=len(slow.agents))
    for i, h in enumerate(slow.hunters):
        if rng.random() < 0.7:
            target = slow.banks[h.held] if h.held is not None else slow.treasures[i]
            dx, dy = target.x - h.x, target.y - h.y
            along_x = abs(dx) > abs(dy)
            actions[i] = (1 if dx > 0 else 2) if along_x else (3 if dy > 0 else 4)
    return actions.tolist()


@pytest.mark.parametrize(
    ("scenario", "settings", "chasing"),
    [
        (TREASURES, {}, False),
        (TREASURES, {}, True),
        (TREASURES, {"num_hunters": 3, "num_banks": 3, "num_treasures": 5}, True),
        (TREASURES, {"num_hunters": 1, "num_banks": 1, "num_treasures": 1}, True),
        (ROVERS, {}, False),
        (ROVERS, {"num_pairs": 2, "num_landmarks": 3}, False),
    ],
)
def test_whole_episodes_agree_with_the_slow_version(scenario, settings, chasing):
    num_envs = 6
    env = started(scenario, range(num_envs), **settings)
    slow = [slow_version(env, e) for e in range(num_envs)]
    rng = np.random.default_rng(0)
    truncated = np.zeros(num_envs, bool)
    steps = 0
    while not truncated.any():
        if chasing:
            actions = [chase(s, rng) for s in slow]
        else:
            actions = rng.integers(5, size=env.active.shape).tolist()
        rewards, _, truncated, _ = act(env, actions)
        for e, s in enumerate(slow):
            s.physics(actions[e])
            np.testing.assert_allclose(rewards[e], s.rewards(), rtol=1e-6, atol=1e-5)
            for ours, theirs in zip(seen(env, e), s.observations(), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5)

            def place(t, e=e):
                return (*env._treasure[e, t], int(env._colour[e, t]))

            s.events(place)
        steps += 1
    assert steps == SCENARIOS[scenario][1]["max_cycles"]
    if chasing:
        counts = env.episode_metrics(list(range(num_envs)))
        assert counts["pick_ups"].tolist() == [s.pick_ups for s in slow]
        assert counts["deposits"].sum() > num_envs  # so the comparison was about something


def random_returns(scenario, num_envs):
    """The mean over agents of one episode's return, (num_envs,)."""
    env = started(scenario, range(num_envs))
    rng = np.random.default_rng(0)
    total = np.zeros(num_envs)
    for _ in range(SCENARIOS[scenario][1]["max_cycles"]):
        total += act(env, rng.integers(5, size=env.active.shape)).rewards.mean(1)
    return total


@pytest.mark.parametrize(
    ("scenario", "mean", "sd", "episodes"),  # of the published code, as measured with it
    [(TREASURES, -2.2, 7.6, 250), (ROVERS, -9.3, 40.9, 600)],
)
def test_random_play_is_paid_as_in_the_published_games(scenario, mean, sd, episodes):
    returns = random_returns(scenario, 200)
    # Four standard errors of the difference.
    assert returns.mean() == pytest.approx(mean, abs=4 * sd * (1 / episodes + 1 / 200) ** 0.5)
    assert returns.std() == pytest.approx(sd, rel=0.3)


# --- Physics ---------------------------------------------------------------------------------


def test_thrust_damping_and_the_order_of_velocity_and_position():
    env = started(ROVERS, [0])
    put(env, position=np.zeros((4, 2)))
    act(env, [[1, 2, 3, 4, 0, 0, 0, 0]])
    directions = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    np.testing.assert_allclose(env._velocity[0], 0.225 * directions)  # 1.5 * 1.5 * 0.1
    np.testing.assert_allclose(env._position[0], 0.0225 * directions)
    wait(env)
    np.testing.assert_allclose(env._velocity[0], 0.75 * 0.225 * directions)
    np.testing.assert_allclose(env._position[0], (0.0225 + 0.016875) * directions)


def test_speed_is_limited_whatever_the_direction():
    position, velocity = np.zeros((1, 3, 2)), np.array([[[1.2, 1.6], [0.0, -1.2], [3.0, 0.0]]])
    move(position, velocity, np.zeros((1, 3, 2)))
    np.testing.assert_allclose(velocity[0], [[0.6, 0.8], [0.0, -0.9], [1.0, 0.0]])
    np.testing.assert_allclose(position[0], 0.1 * velocity[0])


def test_a_heavy_disc_pushes_a_light_one_further():
    env = started(TREASURES, [0], num_hunters=2, num_banks=1)
    put(env, position=[[0.0, 0.0], [0.0, 0.9], [0.1, 0.0]])
    wait(env)
    # Overlap 0.025, so a force of 2.5 before it is weighted by the other's mass over one's own.
    hunter, bank = -2.5 * 2.25 / 1.0, 2.5 / 2.25 / 2.25
    expected = 0.1 * np.array([[hunter, 0.0], [0.0, 0.0], [bank, 0.0]])
    np.testing.assert_allclose(env._velocity[0], expected, rtol=1e-9, atol=1e-12)


def test_contact_sets_in_softly_and_ends():
    def force(distance):
        position = np.array([[[0.0, 0.0], [0.0, distance]]])
        return contact_forces(*between(position, position), np.full(2, 0.05), np.ones(2))[0]

    soft = 100 * 1e-3 * np.log(2)  # where discs only just touch
    np.testing.assert_allclose(force(0.1), [[0, -soft], [0, soft]], rtol=1e-9)
    np.testing.assert_allclose(force(0.2), np.zeros((2, 2)), atol=1e-12)
    assert np.isfinite(force(0.0)).all()


# --- Treasure collection ---------------------------------------------------------------------


def small_hunt(**arrays):
    """Two hunters, a bank, a treasure; hunter_0 is at the treasure."""
    env = started(TREASURES, [0], num_hunters=2, num_banks=1, num_treasures=1)
    where = {"position": [[0.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], "treasure": [[0.05, 0.0]]}
    put(env, **{**where, **arrays})
    return env


def test_a_pick_up_is_paid_at_once_and_seen_a_step_later():
    env = small_hunt()
    rewards = wait(env).rewards[0]
    way = [0.05, np.hypot(0.55, 0.8), np.hypot(1.3, 0.4)]  # the bank waits in the hunters' middle
    np.testing.assert_allclose(rewards, 5 - 0.1 * np.array(way), rtol=1e-6)
    first, last = seen(env)[0], slice(-3, None)
    assert first[4] == 0.0  # holds nothing yet
    np.testing.assert_allclose(first[last], [0.05, 0.0, 1.0], rtol=1e-6)
    assert env.episode_metrics([0]) == {"pick_ups": 1, "deposits": 0}

    rewards = wait(env).rewards[0]
    way = [1.0, np.hypot(999.6, 999.8), 1.0]  # the other hunter sees no treasure but far away
    np.testing.assert_allclose(rewards, -0.1 * np.array(way), rtol=1e-6)
    first = seen(env)[0]
    assert first[4] == 1.0
    np.testing.assert_allclose(first[last], [-999.0, -999.0, 1.0])

    wait(env)
    assert (np.abs(seen(env)[0][-3:-1]) <= 0.95).all()


def test_two_hunters_at_a_treasure_are_paid_for_both_and_the_first_gets_it():
    env = small_hunt(position=[[0.05, -0.052], [0.05, 0.052], [-1.0, 0.0]])
    np.testing.assert_allclose(wait(env).rewards[0, :2], 10 - 0.1 * 0.052, rtol=1e-6)
    assert env._holding[0].tolist() == [0, -1]
    assert env.episode_metrics([0])["pick_ups"] == 1


def test_a_deposit_pays_everybody_and_empties_the_hand():
    env = small_hunt(
        position=[[-0.84, 0.0], [0.6, 0.8], [-1.0, 0.0]],
        velocity=[[-0.5, 0.0], [0.0, 0.0], [0.0, 0.0]],
        holding=[0, -1],
    )
    rewards = wait(env).rewards[0]
    assert env._position[0, 0, 0] == pytest.approx(-0.8775)  # 0.1225 away, and 0.125 touches
    way = [0.1225, np.hypot(0.55, 0.8), 0.1225]
    np.testing.assert_allclose(rewards, 5 - 0.1 * np.array(way), rtol=1e-6)
    assert seen(env)[0][4] == 1.0
    wait(env)
    assert seen(env)[0][4] == 0.0
    assert env.episode_metrics([0]) == {"pick_ups": 0, "deposits": 1}


def test_hunters_pay_for_bumping_into_hunters_only():
    env = small_hunt(
        position=[[0.5, 0.0], [0.63, 0.0], [-1.0, 0.0]],
        velocity=[[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]],
        treasure=[[0.5, 0.5]],
    )
    rewards = wait(env).rewards[0]  # 0.055 apart
    way = [np.hypot(0.0375, 0.5), np.hypot(0.0925, 0.5), 1.565]
    np.testing.assert_allclose(rewards, [-5, -5, 0] - 0.1 * np.array(way), rtol=1e-6)


def test_a_bank_waits_for_the_nearest_of_its_carriers():
    env = started(TREASURES, [0], num_hunters=3, num_banks=2, num_treasures=1)
    put(
        env,
        position=[[0.0, 0.5], [0.0, 0.9], [0.0, -0.5], [0.0, 0.0], [-1.0, 0.0]],
        holding=[1, 0, 0],
        treasure=[[0.9, -0.9]],
    )
    rewards = wait(env).rewards[0]
    way = [np.hypot(1.0, 0.5), 0.9, 0.5, 0.5, np.hypot(1.0, 0.5)]
    np.testing.assert_allclose(rewards, -0.1 * np.array(way), rtol=1e-6)


def test_a_hunter_takes_one_treasure_at_a_time_and_the_first_in_order():
    env = started(TREASURES, [0], num_hunters=1, num_banks=2, num_treasures=3)
    put(
        env,
        position=[[0.0, 0.0], [0.9, 0.0], [-0.9, 0.0]],
        treasure=[[0.5, 0.5], [0.06, 0.0], [0.01, 0.0]],
        colour=[0, 1, 0],
    )
    assert wait(env).rewards[0, 0] == pytest.approx(10 - 0.1 * 0.01)  # both touch
    assert env._holding[0, 0] == 1
    assert env._treasure[0, :, 0].tolist() == [0.5, -999.0, 0.01]


def test_what_a_hunter_and_a_bank_observe():
    env = started(TREASURES, [0], num_hunters=2, num_banks=2, num_treasures=2)
    put(
        env,
        position=[[0.1, 0.2], [0.1, 0.7], [0.1, -0.3], [0.4, 0.2]],
        velocity=[[0.01, 0.02], [0.03, 0.04], [0.05, 0.06], [0.07, 0.08]],
        holding=[-1, 1],
        treasure=[[-0.9, 0.2], [0.1, 0.1]],
        colour=[0, 1],
    )
    hunter, _, _, bank = seen(env)
    # hunter_1 and bank_0 are equally far from hunter_0.
    expected = [
        *(0.1, 0.2, 0.01, 0.02, 0, 0),
        *(0.3, 0.0, 0.07, 0.08, 0, 1, 0, 0),  # bank_1
        *(0.0, 0.5, 0.03, 0.04, 0, 0, 0, 1),  # hunter_1
        *(0.0, -0.5, 0.05, 0.06, 1, 0, 0, 0),  # bank_0
        *(0.0, -0.1, 0, 1),
        *(-1.0, 0.0, 1, 0),
    ]
    np.testing.assert_allclose(hunter, expected, atol=1e-6)
    expected = [
        *(0.4, 0.2, 0.07, 0.08),
        *(-0.3, 0.0, 0.01, 0.02, 0, 0, 0, 0),  # hunter_0
        *(-0.3, 0.5, 0.03, 0.04, 0, 0, 0, 1),  # hunter_1
        *(-0.3, -0.5, 0.05, 0.06, 1, 0, 0, 0),  # bank_0
        *(-0.3, -0.1, 0, 1),
        *(-1.3, 0.0, 1, 0),
    ]
    np.testing.assert_allclose(bank, expected, atol=1e-6)


# --- Rover tower -----------------------------------------------------------------------------


def two_pairs():
    """rover_0 listens to tower_1 and has landmark 2 for its goal; rover_1 to tower_0, 0."""
    env = started(ROVERS, [0], num_pairs=2, num_landmarks=3)
    put(
        env,
        position=[[0.5, 0.5], [-0.5, 0.0]],
        tower_of=[1, 0],
        goal=[2, 0],
        landmark=[[-0.5, 0.4], [0.0, 0.0], [1.0, 0.5]],
    )
    return env


def test_a_message_is_heard_in_the_step_in_which_it_is_said():
    env = two_pairs()
    assert not any(x[2:7].any() for x in seen(env)[:2])
    act(env, [[0, 3, 4, 1]])
    rovers, towers = seen(env)[:2], seen(env)[2:]
    np.testing.assert_allclose(rovers[0], [0, 1, 0, 1, 0, 0, 0, 0.5, 0.5, 0, 0])
    expected = [1, 0, 0, 0, 0, 0, 1, -0.5, 0.0225, 0, 0.225]
    np.testing.assert_allclose(rovers[1], expected, rtol=1e-6)
    np.testing.assert_allclose(towers[0], [0, 1, -0.5, 0.0225, -0.5, 0.4], rtol=1e-6)
    np.testing.assert_allclose(towers[1], [1, 0, 0.5, 0.5, 1.0, 0.5])


def test_a_pair_is_paid_alike_and_by_the_squared_distance():
    env = two_pairs()
    rewards = wait(env).rewards[0]
    # 0.4 away is near: 0.16 is below (0.075 + 0.04) * 1.5 = 0.1725; 0.5 is not.
    np.testing.assert_allclose(rewards, [-0.25, 9.84, 9.84, -0.25], rtol=1e-6)
    assert env.episode_metrics([0]) == {"at_goal": 1}


def test_rovers_do_not_collide():
    env = started(ROVERS, [0], num_pairs=2)
    put(env, position=[[0.0, 0.0], [0.01, 0.0]])
    wait(env)
    assert not env._velocity.any()


# --- Teams, episodes, seeds ------------------------------------------------------------------


def test_teams():
    team = started(TREASURES, [0]).team
    assert team.agents == (*(f"hunter_{i}" for i in range(6)), "bank_0", "bank_1")
    assert [team.observation_spaces[a].shape[0] for a in team.agents] == [86] * 6 + [84] * 2
    assert list(team.action_spaces.values()) == [Discrete(5)] * 8
    assert team.reward_scheme == "individual" and team.state_space is None

    team = started(ROVERS, [0]).team
    assert team.agents == tuple(f"{kind}_{i}" for kind in ("rover", "tower") for i in range(4))
    assert [team.observation_spaces[a].shape[0] for a in team.agents] == [13] * 4 + [8] * 4
    assert team.observation_spaces["rover_0"] == Box(-np.inf, np.inf, (13,), np.float32)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_beginnings(scenario):
    env = started(scenario, range(200))
    for agent, space in env.team.observation_spaces.items():
        x = env.observations[agent]
        assert x.shape == (200, *space.shape) and x.dtype == np.float32
    assert env.active.all() and env.infos == [{}] * 200 and env.state is None
    assert -1 <= env._position.min() < -0.98 and 0.98 < env._position.max() <= 1
    assert not env._velocity.any()
    if scenario == TREASURES:
        assert 0.94 < np.abs(env._treasure).max() <= 0.95
        assert (env._holding == -1).all()
        assert env._colour.mean() == pytest.approx(0.5, abs=0.06)
    else:
        assert (np.sort(env._tower_of, 1) == np.arange(4)).all()
        assert len(np.unique(env._tower_of, axis=0)) == 24
        goals = np.bincount(env._goal.ravel(), minlength=6) / env._goal.size
        np.testing.assert_allclose(goals, 1 / 6, atol=0.06)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_episodes_are_cut_for_time_and_never_end_otherwise(scenario):
    env = started(scenario, [0, 1, 2], max_cycles=3)
    wait(env)
    env.reset([1], [5])
    for truncated in ([False] * 3, [True, False, True], [False, True, False]):
        outcome = wait(env)
        assert outcome.truncated.tolist() == truncated
        assert not outcome.terminated.any() and not outcome.failed.any()


# So many treasures that some are taken, and come back, all the time.
BUSY = {TREASURES: {"num_treasures": 60}, ROVERS: {}}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_episode_follows_from_its_seed_alone(scenario):
    few = started(scenario, [7, 8], **BUSY[scenario])
    many = started(scenario, [1, 8, 2, 7], **BUSY[scenario])
    actions = np.random.default_rng(0).integers(5, size=(24, *many.active.shape))
    for a in actions:
        many_rewards = act(many, a).rewards
        few_rewards = act(few, a[[3, 1]]).rewards
        np.testing.assert_array_equal(few_rewards, many_rewards[[3, 1]])
        for agent in few.team.agents:
            np.testing.assert_array_equal(few.observations[agent], many.observations[agent][[3, 1]])
        counts = few.episode_metrics([0, 1])
        for name, x in many.episode_metrics([3, 1]).items():
            np.testing.assert_array_equal(counts[name], x)
    if scenario == TREASURES:
        assert (counts["pick_ups"] >= 3).all()
    assert not np.array_equal(seen(few, 0)[0], seen(few, 1)[0])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_reset_leaves_the_other_environments_alone(scenario):
    env, undisturbed = (started(scenario, [3, 4], **BUSY[scenario]) for _ in range(2))
    rng = np.random.default_rng(0)
    for t in range(24):
        a = rng.integers(5, size=env.active.shape)
        rewards = act(env, a).rewards
        np.testing.assert_array_equal(rewards[0], act(undisturbed, a).rewards[0])
        if t % 3 == 0:
            env.reset([1], [t])
        for x, y in zip(seen(env), seen(undisturbed), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_seed_the_next_episode_is_another_one(scenario):
    env, again = (started(scenario, [3]) for _ in range(2))
    first = seen(env)[0].copy()
    for e in (env, again):
        e.reset([0], [None])
    assert not np.array_equal(seen(env)[0], first)
    np.testing.assert_array_equal(seen(env)[0], seen(again)[0])


# --- Pictures, settings, training ------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_pictures(scenario):
    env = started(scenario, [0, 1], render_mode="rgb_array")
    before = env.render()
    assert before.shape == (480, 480, 3) and before.dtype == np.uint8
    np.testing.assert_array_equal(env.render(), before)
    act(env, np.ones(env.active.shape, int))
    assert (env.render() != before).any()
    with pytest.raises(TeamError, match='"render_mode": "rgb_array"'):
        started(scenario, [0]).render()


def test_a_registered_creator_is_first_called_without_num_envs():
    config = EnvContext({"scenario": ROVERS, "num_pairs": 2}, worker_index=0)
    assert make_cooperative_mpe(config).num_envs == 1
    assert dict(config) == {"scenario": ROVERS, "num_pairs": 2}


@pytest.mark.parametrize(
    ("env_config", "named"),
    [
        ({}, "Unknown `scenario` None.*treasure_collection.*rover_tower"),
        ({"scenario": "tag"}, "Unknown `scenario` 'tag'"),
        ({"scenario": ["rover_tower"]}, "Unknown `scenario`"),
        ({"scenario": ROVERS, "pairs": 2}, r"\['pairs'\].*'scenario', 'max_cycles', 'num_pairs'"),
        ({"scenario": ROVERS, "num_hunters": 2}, r"'rover_tower' does not know \['num_hunters'\]"),
        ({"scenario": TREASURES, "num_pairs": 2}, r"does not know \['num_pairs'\]"),
        ({"scenario": ROVERS, "num_pairs": 0}, "`num_pairs` must be.*got 0"),
        ({"scenario": ROVERS, "num_landmarks": 1.0}, "`num_landmarks` must be.*got 1.0"),
        ({"scenario": TREASURES, "num_hunters": True}, "`num_hunters` must be.*got True"),
        ({"scenario": TREASURES, "num_banks": None}, "`num_banks` must be.*got None"),
        ({"scenario": TREASURES, "num_treasures": -1}, "`num_treasures` must be.*got -1"),
        ({"scenario": TREASURES, "max_cycles": "9"}, "`max_cycles` must be.*got '9'"),
        ({"scenario": TREASURES, "render_mode": "human"}, "`render_mode` must be.*got 'human'"),
    ],
)
def test_what_is_refused_names_the_setting(env_config, named):
    with pytest.raises(TeamError, match=named) as refused:
        make_cooperative_mpe(env_config)
    assert 'config.environment("cooperative_mpe", env_config={' in str(refused.value)


@pytest.mark.parametrize(("scenario", "num_env_runners"), [(TREASURES, 1), (ROVERS, 0)])
def test_trains_by_name(scenario, num_env_runners, ray_local):
    algo = (
        HAPPOConfig()
        .environment("cooperative_mpe", env_config={"scenario": scenario, "max_cycles": 10})
        .env_runners(num_env_runners=num_env_runners, num_envs_per_env_runner=4)
        .learners(num_learners=0)
        .rl_module(model_config={"hidden_sizes": [16]})
        .training(train_batch_size_per_learner=80, num_epochs=1)
        .debugging(seed=0)
        .build_algo()
    )
    result = algo.train()
    algo.stop()
    assert result["env_runners"]["num_episodes"] == 8
    assert result["env_runners"]["episode_len_mean"] == 10
    for agent in algo.config.layout.team.agents:
        assert np.isfinite(result["learners"][agent]["entropy"])
