"""MA-MuJoCo: the library's numbers, the papers' factorisations, full observation."""

import numpy as np
import pytest

from rllib_hetero.envs import make_mamujoco
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import Team

pytest.importorskip("mujoco")
robotics = pytest.importorskip("gymnasium_robotics")


def make(scenario="HalfCheetah", agent_conf="2x3", agent_obsk=0, **options):
    return make_mamujoco(
        {"scenario": scenario, "agent_conf": agent_conf, "agent_obsk": agent_obsk, **options}
    )


def sample(env, rng):
    """Uniformly random float32 actions of all agents."""
    return {a: rng.uniform(s.low, s.high).astype(np.float32) for a, s in env.action_spaces.items()}


@pytest.mark.parametrize(
    ("scenario", "conf", "actions", "state"),
    [
        ("HalfCheetah", "6x1", [1] * 6, 17),
        ("HalfCheetah", "2x3", [3, 3], 17),
        ("HalfCheetah", "3x2", [2, 2, 2], 17),
        ("Walker2d", "3x2", [2, 2, 2], 17),
        ("Walker2d", "6x1", [1] * 6, 17),
        ("Ant", "8x1", [1] * 8, 105),
        ("Ant", "2x4d", [4, 4], 105),
        ("Pusher", "7x1", [1] * 7, 23),
        ("Humanoid", "9|8", [9, 8], 348),
        ("Humanoid", "17x1", [1] * 17, 348),
        ("ManySegmentAnt", "2x1", [4, 4], None),
        ("ManySegmentSwimmer", "3x2", [2, 2, 2], None),
    ],
)
@pytest.mark.parametrize("hops", [None, 0, 1])
def test_teams(scenario, conf, actions, state, hops):
    env = make(scenario, conf, hops)
    team = Team.from_env(env)
    assert [team.action_spaces[a].shape[0] for a in team.agents] == actions
    assert team.reward_scheme == "shared"
    assert state is None or team.state_space.shape == (state,)
    if hops is None:
        assert set(map(str, team.observation_spaces.values())) == {str(team.state_space)}
    observations, _ = env.reset(seed=0)
    for _ in range(3):
        assert all(env.observation_spaces[a].contains(x) for a, x in observations.items())
        assert env.state_space.contains(env.state())
        observations, rewards, *_ = env.step(sample(env, np.random.default_rng(0)))
        assert list(rewards) == list(team.agents)
        assert len(set(rewards.values())) == 1


@pytest.mark.parametrize(
    ("scenario", "conf", "hops"),
    [
        ("HalfCheetah", "6x1", 1),
        ("HalfCheetah", "2x3", 0),
        ("Ant", "2x4d", 1),
        ("Hopper", "3x1", 1),
    ],
)
def test_the_numbers_are_the_librarys(scenario, conf, hops):
    env = make(scenario, conf, hops)
    library = robotics.mamujoco_v1.parallel_env(scenario, conf, agent_obsk=hops)
    ours, _ = env.reset(seed=3)
    theirs, _ = library.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(200):
        for agent, x in theirs.items():
            assert np.array_equal(ours[agent], x.astype(np.float32))
            assert ours[agent].dtype == np.float32
        assert np.array_equal(env.state(), library.state().astype(np.float32))
        assert env.agents == library.agents
        if not env.agents:
            break
        action = sample(env, rng)
        ours, rewards, terminateds, truncateds, _ = env.step(action)
        theirs, *expected, _ = library.step(action)
        assert rewards == expected[0]
        assert {a: terminateds[a] for a in rewards} == expected[1]
        assert {a: truncateds[a] for a in rewards} == expected[2]
    assert terminateds["__all__"] == (scenario == "Hopper")  # it falls; a cheetah cannot


def test_full_observation_is_the_state():
    full, partial = make(agent_obsk=None), make(agent_obsk=0)
    rng = np.random.default_rng(0)
    seen, _ = full.reset(seed=1)
    part, _ = partial.reset(seed=1)
    for _ in range(5):
        assert all(np.array_equal(x, partial.state()) for x in seen.values())
        assert [x.shape for x in part.values()] == [(11,), (11,)]
        action = sample(full, rng)
        seen, *_ = full.step(action)
        part, *_ = partial.step(action)


def test_preset_of_the_harl_authors():
    env = make_mamujoco({"scenario": "HalfCheetah", "agent_conf": "2x3", "preset": "harl"})
    team = Team.from_env(env)
    assert [s.shape for s in team.observation_spaces.values()] == [(19,), (19,)]
    assert team.state_space.shape == (17,)
    bare = make("HalfCheetah", "2x3", None)
    observations, _ = env.reset(seed=3)
    bare.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(3):
        state = bare.state().astype(np.float64)
        expected = (state - state.mean()) / np.sqrt(((state - state.mean()) ** 2).mean())
        np.testing.assert_allclose(env.state(), expected, rtol=1e-4, atol=1e-5)
        for i, x in enumerate(observations.values()):
            raw = np.r_[state, np.eye(2)[i]]
            expected = (raw - raw.mean()) / np.sqrt(((raw - raw.mean()) ** 2).mean())
            np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
            assert x.dtype == np.float32
        actions = sample(env, rng)
        observations, *_ = env.step(actions)
        bare.step(actions)


@pytest.mark.parametrize(("scenario", "conf", "hops"), [("Ant", "4x2", None), ("Hopper", "3x1", 0)])
def test_preset_of_the_bppo_authors(scenario, conf, hops):
    env = make_mamujoco({"scenario": scenario, "agent_conf": conf, "preset": "bppo"})
    assert str(env.observation_spaces) == str(make(scenario, conf, hops).observation_spaces)


@pytest.mark.parametrize(
    "options", [{"preset": "mappo"}, {"preset": 3}, {"preset": "harl", "agent_obsk": None}]
)
def test_wrong_preset(options):
    config = {"scenario": "HalfCheetah", "agent_conf": "2x3", **options}
    with pytest.raises(TeamError, match=r"`preset` must be one of.*'harl', 'bppo'.*\"preset\": "):
        make_mamujoco(config)


def test_earlier_observations_stay_as_they_were():
    env = make(agent_obsk=None)
    first, _ = env.reset(seed=1)
    kept = first["agent_0"].copy()
    env.step(sample(env, np.random.default_rng(0)))
    assert np.array_equal(first["agent_0"], kept)


def test_papers_factorisation_of_the_half_cheetah():
    parts = make(agent_conf="3x2").env.agent_action_partitions
    assert [tuple(j.label for j in part) for part in parts] == [
        ("bfoot", "bshin"),
        ("bthigh", "ffoot"),
        ("fshin", "fthigh"),
    ]


def test_actions_reach_their_joints():
    """The same torques move the robot the same way, however its joints are divided."""
    torques = np.random.default_rng(0).uniform(-1, 1, (20, 6)).astype(np.float32)
    states = []
    for conf in ("2x3", "6x1", "3x2", "1x6"):
        env = make(agent_conf=conf)
        ids = [[j.act_ids for j in part] for part in env.env.agent_action_partitions]
        env.reset(seed=0)
        for torque in torques:
            env.step({a: torque[i] for a, i in zip(env.agents, ids, strict=True)})
        states.append(env.state())
    assert all(np.array_equal(s, states[0]) for s in states)


@pytest.mark.parametrize(("options", "limit"), [({}, 1000), ({"max_episode_steps": 5}, 5)])
def test_the_time_limit_truncates(options, limit):
    env = make(agent_obsk=None, **options)
    env.reset(seed=0)
    action = sample(env, np.random.default_rng(0))
    for _ in range(limit):
        assert env.agents
        _, _, terminateds, truncateds, _ = env.step(action)
    assert truncateds == {"agent_0": True, "agent_1": True, "__all__": True}
    assert not any(terminateds.values())
    assert env.agents == []
    env.reset()
    assert len(env.agents) == 2


def test_the_same_seed_gives_the_same_episode():
    def states(seed):
        env, rng = make("Ant", "4x2"), np.random.default_rng(0)
        env.reset(seed=seed)
        for _ in range(10):
            env.step(sample(env, rng))
        return env.state()

    assert np.array_equal(states(1), states(1))
    assert not np.array_equal(states(1), states(2))


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
    given = make().env
    factorization = {"partition": given.agent_action_partitions[:1], "edges": [], "globals": []}
    with pytest.raises(TeamError, match="exactly once"):
        make(agent_factorization=factorization)


def test_the_env_config_is_left_alone():
    config = {"scenario": "ManySegmentSwimmer", "agent_conf": "2x2", "num_envs": 2}
    make_mamujoco(config)
    assert config == {"scenario": "ManySegmentSwimmer", "agent_conf": "2x2", "num_envs": 2}


def test_missing_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingExtraError, match=r"rllib_hetero\[mamujoco\]"):
        make()
