"""MA-MuJoCo: the library's numbers, the papers' factorisations, full observation."""

import numpy as np
import pytest

from rllib_hetero.envs import make_mamujoco
from rllib_hetero.envs.mamujoco.joints import factorization
from rllib_hetero.errors import MissingExtraError, TeamError

mujoco = pytest.importorskip("mujoco")
robotics = pytest.importorskip("gymnasium_robotics")

LABELS = {
    "Ant": ("2x4", "2x4d", "4x2", "8x1"),
    "CoupledHalfCheetah": ("1p1", "4x3"),
    "HalfCheetah": ("2x3", "3x2", "6x1"),
    "Hopper": ("3x1",),
    "Humanoid": ("9|8", "17x1"),
    "HumanoidStandup": ("9|8", "17x1"),
    "ManySegmentAnt": ("2x1", "3x2"),
    "ManySegmentSwimmer": ("2x2", "3x1"),
    "Pusher": ("3p", "7x1"),
    "Reacher": ("2x1",),
    "Swimmer": ("2x1",),
    "Walker2d": ("2x3", "3x2", "6x1"),
}


def make(scenario="HalfCheetah", agent_conf="2x3", agent_obsk=0, **options):
    return make_mamujoco(
        {"scenario": scenario, "agent_conf": agent_conf, "agent_obsk": agent_obsk, **options}
    )


def library(scenario, conf, hops, **options):
    factors = options.pop("agent_factorization", None) or factorization(scenario, conf)
    return robotics.mamujoco_v1.parallel_env(
        scenario, conf, agent_obsk=hops, agent_factorization=factors, **options
    )


def sample(env, rng, stretch=1.0):
    """Uniformly random float32 actions of all agents, (E, ...) each."""
    return {
        a: (stretch * rng.uniform(s.low, s.high, (env.num_envs, *s.shape))).astype(np.float32)
        for a, s in env.team.action_spaces.items()
    }


def same_sight(env, e, theirs, seen, infos):
    for agent, x in seen.items():
        assert env.observations[agent].dtype == np.float32
        assert np.array_equal(env.observations[agent][e], x.astype(np.float32)), agent
    assert np.array_equal(env.state[e], theirs.state().astype(np.float32))
    for agent, info in infos.items():
        assert env.infos[e][agent].keys() == info.keys()
        for name, x in info.items():
            assert np.array_equal(env.infos[e][agent][name], x), name


def play_both(env, theirs, steps):
    """Plays the batch and the library's environments, one by one; returns how many episodes ended.

    Seeds are given to every other reset, the others go on with the random numbers there are.
    """
    rng = np.random.default_rng(0)
    env.reset(range(env.num_envs), range(env.num_envs))
    for e, their in enumerate(theirs):
        same_sight(env, e, their, *their.reset(seed=e))
    ended = 0
    for t in range(steps):
        action = sample(env, rng, stretch=1.3)  # MuJoCo clips, the cost of control does not
        outcome = env.step(action)
        assert not outcome.failed.any()
        for e, their in enumerate(theirs):
            mine = {a: x[e] for a, x in action.items()}
            seen, rewards, terminated, truncated, infos = their.step(mine)
            same_sight(env, e, their, seen, infos)
            assert outcome.rewards[e].tolist() == np.float32([*rewards.values()]).tolist()
            assert {bool(outcome.terminated[e])} == set(terminated.values())
            if outcome.terminated[e]:
                assert not outcome.truncated[e]
            else:
                assert {bool(outcome.truncated[e])} == set(truncated.values())
            if not their.agents:
                seed = None if ended % 2 else t
                env.reset([e], [seed])
                same_sight(env, e, their, *their.reset(seed=seed))
                ended += 1
    return ended


@pytest.mark.parametrize("scenario", LABELS)
def test_the_numbers_are_the_librarys(scenario):
    """Of two robots side by side; the slow test below is of whole episodes."""
    limit = {} if scenario == "CoupledHalfCheetah" else {"max_episode_steps": 12}
    for hops, conf in enumerate(LABELS[scenario]):
        env = make(scenario, conf, min(hops, 1), num_envs=2, **limit)
        assert all(columns is not None for columns in env._sight.indices)  # none is read slowly
        theirs = [library(scenario, conf, min(hops, 1), **limit) for _ in range(2)]
        assert play_both(env, theirs, 30) >= (4 if limit else 0)


@pytest.mark.slow
@pytest.mark.parametrize("hops", [0, 1, 2])
@pytest.mark.parametrize(
    ("scenario", "conf"), [(s, conf) for s, labels in LABELS.items() for conf in labels]
)
def test_the_numbers_of_whole_episodes_are_the_librarys(scenario, conf, hops):
    env = make(scenario, conf, hops, num_envs=2)
    assert play_both(env, [library(scenario, conf, hops) for _ in range(2)], 1000) >= 2


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("Ant", {"contact_force_range": (-0.2, 0.3), "healthy_z_range": (0.5, 0.7)}),
        ("Walker2d", {"healthy_z_range": (1.0, 1.3), "terminate_when_unhealthy": False}),
        ("Hopper", {"healthy_state_range": (-1.0, 1.0), "healthy_reward": 3}),
        ("HalfCheetah", {"exclude_current_positions_from_observation": False, "frame_skip": 2}),
        ("HalfCheetah", {"local_categories": [["qvel"]], "global_categories": ("qpos",)}),
        ("Humanoid", {"contact_cost_weight": 1.0, "contact_cost_range": (0.0, 2.0)}),
    ],
)
def test_settings_of_the_robot(scenario, options):
    conf = LABELS[scenario][0]
    env = make(scenario, conf, 0, num_envs=2, **options)
    play_both(env, [library(scenario, conf, 0, **options) for _ in range(2)], 40)


@pytest.mark.parametrize("scenario", ["Hopper", "Walker2d"])
def test_velocities_are_clipped_in_the_state_alone(scenario):
    conf, noise = LABELS[scenario][0], {"reset_noise_scale": 30.0}
    env, their = make(scenario, conf, 0, **noise), library(scenario, conf, 0, **noise)
    env.reset([0], [0])
    same_sight(env, 0, their, *their.reset(seed=0))
    size = env.state.shape[1]
    assert np.abs(env.state[0, size // 2 :]).max() == 10.0
    if scenario == "Walker2d":  # the library clips those of a hopper's joints, too
        assert np.abs(env.observations["agent_0"]).max() > 10.0


def test_what_is_no_selection_is_read_by_the_library():
    from gymnasium_robotics.envs.multiagent_mujoco.obsk import Node

    factors = factorization("HalfCheetah", "3x2")
    doubled = Node("doubled", None, None, None, extra_obs={"qpos": lambda d: 2.0 * d.qpos[:1]})
    factors["globals"] = [doubled]
    options = {"agent_factorization": factors, "global_categories": ("qpos",)}
    env = make("HalfCheetah", "3x2", 0, num_envs=2, max_episode_steps=5, **options)
    theirs = [library("HalfCheetah", "3x2", 0, max_episode_steps=5, **options) for _ in range(2)]
    assert play_both(env, theirs, 12) == 4


def test_a_robot_of_ones_own_is_stepped_by_the_library():
    import gymnasium

    class Slow(gymnasium.Wrapper):
        def step(self, action):
            seen, reward, *rest = super().step(action)
            return seen, reward - 1.0, *rest

    env = make("Hopper", "3x1", gym_env=Slow(gymnasium.make("Hopper-v5")))
    their = library("Hopper", "3x1", 0)
    ours, _ = env.reset(seed=0)
    theirs, _ = their.reset(seed=0)
    rng = np.random.default_rng(0)
    while env.agents:
        assert all(np.array_equal(ours[a], x.astype(np.float32)) for a, x in theirs.items())
        assert np.array_equal(env.state(), their.state().astype(np.float32))
        action = {a: rng.uniform(-1, 1, 1).astype(np.float32) for a in env.agents}
        ours, rewards, terminateds, _, _ = env.step(action)
        theirs, expected, *_ = their.step(action)
        assert rewards == {a: r - 1.0 for a, r in expected.items()}
    assert terminateds["__all__"]
    assert not their.agents


def test_joints_of_one_name_have_an_order():
    """The library sorts a pusher's joints by names that it has mixed up."""
    parts = factorization("Pusher", "3p")["partition"]
    assert len({joint.label for part in parts for joint in part}) == 7


@pytest.mark.parametrize(
    ("scenario", "conf", "actions", "state"),
    [
        ("HalfCheetah", "3x2", [2, 2, 2], 17),
        ("Walker2d", "6x1", [1] * 6, 17),
        ("Ant", "2x4d", [4, 4], 105),
        ("Humanoid", "9|8", [9, 8], 348),
        ("ManySegmentSwimmer", "3x2", [2, 2, 2], 16),
    ],
)
def test_full_observation_is_the_state(scenario, conf, actions, state):
    env = make(scenario, conf, None, num_envs=2)
    team = env.team
    assert [team.action_spaces[a].shape[0] for a in team.agents] == actions
    assert team.reward_scheme == "shared"
    assert team.state_space.shape == (state,)
    assert set(map(str, team.observation_spaces.values())) == {str(team.state_space)}
    env.reset([0, 1], [0, 1])
    env.step(sample(env, np.random.default_rng(0)))
    assert all(np.array_equal(x, env.state) for x in env.observations.values())


def test_preset_of_the_harl_authors():
    options = {"scenario": "HalfCheetah", "agent_conf": "2x3", "num_envs": 2}
    env = make_mamujoco({**options, "preset": "harl"})
    assert [s.shape for s in env.team.observation_spaces.values()] == [(19,), (19,)]
    assert env.team.state_space.shape == (17,)
    bare = make_mamujoco(options)
    rng = np.random.default_rng(0)
    for both in (env, bare):
        both.reset([0, 1], [3, 4])
    for _ in range(3):
        for e, state in enumerate(bare.state.astype(np.float64)):
            expected = (state - state.mean()) / np.sqrt(((state - state.mean()) ** 2).mean())
            np.testing.assert_allclose(env.state[e], expected, rtol=1e-4, atol=1e-5)
            for i, x in enumerate(env.observations.values()):
                raw = np.r_[state, np.eye(2)[i]]
                expected = (raw - raw.mean()) / np.sqrt(((raw - raw.mean()) ** 2).mean())
                np.testing.assert_allclose(x[e], expected, rtol=1e-4, atol=1e-5)
        actions = sample(env, rng)
        for both in (env, bare):
            both.step(actions)


@pytest.mark.parametrize(("scenario", "conf", "hops"), [("Ant", "4x2", None), ("Hopper", "3x1", 0)])
def test_preset_of_the_bppo_authors(scenario, conf, hops):
    env = make_mamujoco({"scenario": scenario, "agent_conf": conf, "preset": "bppo"})
    assert env.team == make(scenario, conf, hops).team


@pytest.mark.parametrize(
    "options", [{"preset": "mappo"}, {"preset": 3}, {"preset": "harl", "agent_obsk": None}]
)
def test_wrong_preset(options):
    config = {"scenario": "HalfCheetah", "agent_conf": "2x3", **options}
    with pytest.raises(TeamError, match=r"`preset` must be one of.*'harl', 'bppo'.*\"preset\": "):
        make_mamujoco(config)


def test_papers_factorisation_of_the_half_cheetah():
    parts = factorization("HalfCheetah", "3x2")["partition"]
    assert [tuple(j.label for j in part) for part in parts] == [
        ("bfoot", "bshin"),
        ("bthigh", "ffoot"),
        ("fshin", "fthigh"),
    ]


@pytest.mark.parametrize(("options", "limit"), [({}, 1000), ({"max_episode_steps": 5}, 5)])
def test_the_time_limit_truncates(options, limit):
    env = make(agent_obsk=None, num_envs=2, **options)
    env.reset([0, 1], [0, 1])
    action = sample(env, np.random.default_rng(0))
    for t in range(1, limit + 1):
        if t == 3:
            env.reset([1], [None])
        outcome = env.step(action)
        assert outcome.truncated.tolist() == [t == limit, False]
        assert not outcome.terminated.any()


def test_an_end_in_the_last_step_is_no_truncation():
    env = make("Ant", "4x2", None, max_episode_steps=1, healthy_z_range=(5.0, 6.0))
    env.reset([0], [0])
    outcome = env.step(sample(env, np.random.default_rng(0)))
    assert (outcome.terminated[0], outcome.truncated[0]) == (True, False)


def test_an_ant_of_infinite_speed_is_not_healthy():
    import gymnasium

    from rllib_hetero.envs.mamujoco.physics import Robots
    from rllib_hetero.envs.mamujoco.rewards import Crawling

    robot = gymnasium.make("Ant-v5").unwrapped
    ants = Robots(robot, 2, ("qpos", "qvel"), contacts=False)
    ants.fields["qpos"][:, 2] = 0.5
    ants.fields["qvel"][0, 3] = np.inf
    assert Crawling(robot).ends(ants).tolist() == [True, False]


def test_robots_draw_numbers_of_their_own():
    env = make(num_envs=2)
    env.reset([0, 1], [None, None])
    assert not np.array_equal(*env.state)


def test_unknown_scenario():
    with pytest.raises(TeamError, match=r'HalfCheetah.*"scenario"'):
        make("Cheetah-v2")


@pytest.mark.parametrize("conf", [None, "5x1", "9|8", "6x", "0x6"])
def test_unknown_agent_conf(conf):
    valid = r"'2x3', '6x1', '3x2'"
    with pytest.raises(TeamError, match=f'{valid}.*"agent_conf"'):
        make(agent_conf=conf)


def test_unknown_agent_conf_of_a_segmented_robot():
    with pytest.raises(TeamError, match=r'NxM.*"agent_conf"'):
        make("ManySegmentAnt", "2")


@pytest.mark.parametrize("hops", [-1, 1.5, True, "1"])
def test_unknown_agent_obsk(hops):
    with pytest.raises(TeamError, match='"agent_obsk"'):
        make(agent_obsk=hops)


@pytest.mark.parametrize("scenario", ["HalfCheetah", "ManySegmentSwimmer"])
def test_unknown_keyword(scenario):
    with pytest.raises(TeamError, match="gravity"):
        make(scenario, gravity=0)


def test_incomplete_factorization():
    factors = factorization("HalfCheetah", "3x2")
    factors["partition"] = factors["partition"][:1]
    with pytest.raises(TeamError, match="exactly once"):
        make(agent_factorization=factors)


def test_pictures_are_asked_for():
    with pytest.raises(TeamError, match=r'"render_mode": "rgb_array"'):
        make().render()


def test_the_env_config_is_left_alone():
    config = {"scenario": "ManySegmentSwimmer", "agent_conf": "2x2", "num_envs": 2}
    make_mamujoco(config)
    assert config == {"scenario": "ManySegmentSwimmer", "agent_conf": "2x2", "num_envs": 2}


def test_missing_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingExtraError, match=r"rllib_hetero\[mamujoco\]"):
        make()
