"""The MPE scenarios."""

import importlib

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from ray.rllib.env.env_context import EnvContext

from rllib_hetero.envs import make_mpe
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import Team

pytest.importorskip("mpe2")


def episode(env, rng, seed=None):
    """The team's rewards (T,) and the last observations under uniformly random actions."""
    observations, _ = env.reset(seed=seed)
    low_high = {a: (s.low, s.high) for a, s in env.action_spaces.items()}
    team_rewards, ended = [], False
    while not ended:
        actions = {a: rng.uniform(*low_high[a]).astype(np.float32) for a in env.agents}
        observations, rewards, terminateds, truncateds, _ = env.step(actions)
        team_rewards.append(sum(rewards.values()))
        ended = terminateds["__all__"] or truncateds["__all__"]
    assert truncateds["__all__"] and not terminateds["__all__"]  # the time limit
    return np.array(team_rewards), observations


@pytest.mark.parametrize(
    ("scenario", "observations", "actions"),
    [
        ("simple_spread", [18, 18, 18], [5, 5, 5]),
        ("simple_reference", [21, 21], [15, 15]),
        ("simple_speaker_listener", [3, 11], [3, 5]),
    ],
)
def test_teams(scenario, observations, actions):
    env = make_mpe({"scenario": scenario})
    team = Team.from_env(env)
    assert [team.observation_spaces[a].shape[0] for a in team.agents] == observations
    assert [team.action_spaces[a].shape[0] for a in team.agents] == actions
    assert team.reward_scheme == "individual"
    assert team.state_space is None
    first, _ = env.reset(seed=0)
    assert all(env.observation_spaces[a].contains(x) for a, x in first.items())
    # What the critic sees in place of MPE's own state is that very state.
    joint = np.concatenate([first[a] for a in team.agents])
    assert np.array_equal(joint, env.env.unwrapped.state())
    rewards, _ = episode(env, np.random.default_rng(0))
    assert len(rewards) == 25


def test_discrete_actions_and_options():
    env = make_mpe({"scenario": "simple_spread", "continuous_actions": False, "N": 4})
    assert list(env.action_spaces.values()) == [Discrete(5)] * 4
    env = make_mpe({"scenario": "simple_spread", "max_cycles": 7})
    assert len(episode(env, np.random.default_rng(0))[0]) == 7


def test_random_return_of_simple_spread():
    env = make_mpe({"scenario": "simple_spread"})
    rng = np.random.default_rng(0)
    returns = [episode(env, rng, seed=i)[0].sum() for i in range(200)]
    assert np.mean(returns) == pytest.approx(-76, abs=6)  # about 3 standard errors


def test_the_same_seed_gives_the_same_episode():
    config = {"scenario": "simple_spread"}
    runs = [episode(make_mpe(config), np.random.default_rng(1), seed=s) for s in (5, 5, 6)]
    assert np.array_equal(runs[0][0], runs[1][0])
    assert all(np.array_equal(runs[0][1][a], runs[1][1][a]) for a in runs[0][1])
    assert not np.array_equal(runs[0][0], runs[2][0])


def test_the_env_config_is_left_alone():
    config = EnvContext({"scenario": "simple_spread", "N": 2, "num_envs": 4}, worker_index=1)
    make_mpe(config)
    assert dict(config) == {"scenario": "simple_spread", "N": 2, "num_envs": 4}


@pytest.mark.parametrize("config", [{}, {"scenario": "simple_tag"}])
def test_unknown_scenario(config):
    with pytest.raises(TeamError, match=r"_spread.*_reference.*_speaker_listener.*config"):
        make_mpe(config)


def test_unknown_keyword():
    # N is simple_spread's alone.
    with pytest.raises(TeamError, match=r"does not know \['N'\].*max_cycles"):
        make_mpe({"scenario": "simple_speaker_listener", "N": 3})


def test_missing_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mpe2.simple_spread_v3", None)
    with pytest.raises(MissingExtraError, match=r"rllib_hetero\[mpe\]"):
        make_mpe({"scenario": "simple_spread"})


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
@pytest.mark.parametrize("continuous", [True, False])
def test_steps_like_mpe2s_own_parallel_environment(scenario, continuous):
    """`MPETeamEnv` leaves PettingZoo's wrappers out; what comes out must be the same."""
    ours = make_mpe({"scenario": scenario, "continuous_actions": continuous})
    module = importlib.import_module(f"mpe2.{SCENARIOS[scenario]}")
    theirs = module.parallel_env(continuous_actions=continuous)
    rng = np.random.default_rng(0)
    for seed in (3, 4):
        a, _ = ours.reset(seed=seed)
        b, _ = theirs.reset(seed=seed)
        while theirs.agents:
            assert a.keys() == b.keys()
            for agent in a:
                np.testing.assert_array_equal(a[agent], b[agent])
            actions = {}
            for agent in theirs.agents:
                space = theirs.action_space(agent)
                actions[agent] = (
                    rng.uniform(-0.5, 1.5, space.shape).astype(np.float32)  # some out of bounds
                    if continuous
                    else int(rng.integers(space.n))
                )
            a, reward_a, _, _, _ = ours.step(actions)
            b, reward_b, _, truncated, _ = theirs.step(actions)
            assert reward_a == reward_b
        assert all(truncated.values()) and not ours.agents
