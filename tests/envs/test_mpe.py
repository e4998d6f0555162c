"""The MPE scenarios: ours, batched, against mpe2's own; and mpe2's own through our wrapper."""

import importlib
import sys

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from ray.rllib.env.env_context import EnvContext

from rllib_hetero.envs import make_mpe
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import Team

pytest.importorskip("mpe2")

KINDS = [(scenario, continuous) for scenario in sorted(SCENARIOS) for continuous in (True, False)]


def theirs(scenario, **options):
    """mpe2's environment, without its wrapper that writes a line for every clipped action."""
    module = importlib.import_module(f"mpe2.{SCENARIOS[scenario][0].module}")
    return module.parallel_env(**options)


def some_actions(env, rng):
    """Agent id to (E, ...): also where nothing is to be clipped to, just out of bounds."""
    num_envs = env.num_envs
    return {
        a: rng.uniform(-0.5, 1.5, (num_envs, *s.shape)).astype(np.float32)
        if isinstance(s, Box)
        else rng.integers(s.n, size=num_envs)
        for a, s in env.team.action_spaces.items()
    }


class SideBySide:
    """Ours and mpe2's, from the same seeds and by the same actions."""

    def __init__(self, scenario, num_envs, **options):
        self.ours = make_mpe({"scenario": scenario, "num_envs": num_envs, **options})
        self.theirs = [theirs(scenario, **options) for _ in range(num_envs)]
        self.rng = np.random.default_rng(0)

    def reset(self, envs, seeds):
        self.ours.reset(envs, seeds)
        for e, seed in zip(envs, seeds, strict=True):
            self.same_observations(e, self.theirs[e].reset(seed=seed)[0])

    def same_observations(self, e, observations):
        # The forces of several contacts are added in another order, in double precision; rounded
        # to float32 the same, or the next.
        for a, x in observations.items():
            np.testing.assert_allclose(self.ours.observations[a][e], x, rtol=3e-7, atol=1e-7)

    def step(self):
        actions = some_actions(self.ours, self.rng)
        outcome = self.ours.step(actions)
        for e, env in enumerate(self.theirs):
            own = {a: x[e] if x.ndim > 1 else int(x[e]) for a, x in actions.items()}
            if not isinstance(self.ours.team.action_spaces[next(iter(own))], Discrete):
                own = {a: x.clip(0.0, 1.0) for a, x in own.items()}
            observations, rewards, _, truncated, _ = env.step(own)
            self.same_observations(e, observations)
            expected = [rewards[a] for a in self.ours.team.agents]
            np.testing.assert_allclose(outcome.rewards[e], expected, rtol=3e-7)
            assert outcome.truncated[e] == all(truncated.values())
        assert not outcome.terminated.any()
        return outcome


def play(pair, episodes):
    for seed in range(episodes):
        first = seed * pair.ours.num_envs
        pair.reset(range(pair.ours.num_envs), range(first, first + pair.ours.num_envs))
        while not pair.step().truncated.all():
            pass


@pytest.mark.parametrize(("scenario", "continuous"), KINDS)
def test_it_is_mpe2s_game(scenario, continuous):
    play(SideBySide(scenario, 3, continuous_actions=continuous), episodes=6)


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "continuous"), KINDS)
def test_it_is_mpe2s_game_over_a_thousand_episodes(scenario, continuous):
    play(SideBySide(scenario, 20, continuous_actions=continuous), episodes=50)


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("simple_spread", {"N": 5, "local_ratio": 0.9, "max_cycles": 9}),
        ("simple_spread", {"N": 1}),
        ("simple_reference", {"local_ratio": 0.0, "max_cycles": 4}),
        ("simple_speaker_listener", {"max_cycles": 1}),
    ],
)
def test_options_are_mpe2s(scenario, options):
    play(SideBySide(scenario, 2, continuous_actions=True, **options), episodes=3)


def test_agents_in_contact():
    pair = SideBySide("simple_spread", 2, continuous_actions=True, N=20, max_cycles=6)
    pair.reset(range(2), [0, 1])
    touched = np.zeros(2)
    for _ in range(6):
        pair.step()
        touched -= pair.ours._own_rewards().sum(1)
    assert (touched > 6 * 4).all()  # both ways: two pairs and more in a step


def test_one_environment_is_reset_alone():
    pair = SideBySide("simple_reference", 3, continuous_actions=False)
    pair.reset(range(3), [1, 2, 3])
    pair.step()
    pair.reset([1], [4])
    assert not np.array_equal(pair.ours._steps, [1, 1, 1])
    pair.step()
    pair.reset([0, 2], [None, None])  # goes on with the generators that the seeds made


@pytest.mark.parametrize(
    ("scenario", "observations", "continuous", "discrete"),
    [
        ("simple_spread", [18, 18, 18], [5, 5, 5], [5, 5, 5]),
        ("simple_reference", [21, 21], [15, 15], [50, 50]),
        ("simple_speaker_listener", [3, 11], [3, 5], [3, 5]),
    ],
)
@pytest.mark.parametrize("backend", ["batched", "mpe2"])
def test_teams(scenario, observations, continuous, discrete, backend):
    for kind, sizes in ((True, continuous), (False, discrete)):
        config = {"scenario": scenario, "backend": backend, "continuous_actions": kind}
        env = make_mpe(config)
        team = env.team if backend == "batched" else Team.from_env(env)
        assert [team.observation_spaces[a].shape[0] for a in team.agents] == observations
        spaces = [team.action_spaces[a] for a in team.agents]
        assert spaces == [Box(0.0, 1.0, (k,)) if kind else Discrete(k) for k in sizes]
        assert team.reward_scheme == "individual"
        assert team.state_space is None


@pytest.mark.parametrize(("scenario", "continuous"), KINDS)
def test_pictures_are_mpe2s(scenario, continuous, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    options = {"continuous_actions": continuous, "render_mode": "rgb_array"}
    pair = SideBySide(scenario, 1, **options)
    pair.reset([0], [5])
    for _ in range(3):
        np.testing.assert_array_equal(pair.ours.render(), pair.theirs[0].render())
        pair.step()
    pair.reset([0], [6])
    np.testing.assert_array_equal(pair.ours.render(), pair.theirs[0].render())


def test_no_pictures_were_asked_for():
    env = make_mpe({"scenario": "simple_spread"})
    with pytest.raises(TeamError, match=r"render_mode.*rgb_array"):
        env.render()


def test_random_return_of_simple_spread():
    env = make_mpe({"scenario": "simple_spread", "num_envs": 200})
    env.reset(range(200), range(200))
    rng = np.random.default_rng(0)
    low_high = env.team.action_spaces["agent_0"].low, env.team.action_spaces["agent_0"].high
    returns = np.zeros(200)
    for _ in range(25):
        actions = {a: rng.uniform(*low_high, (200, 5)).astype(np.float32) for a in env.team.agents}
        returns += env.step(actions).rewards.sum(1)
    assert np.mean(returns) == pytest.approx(-76, abs=6)  # about 3 standard errors


def test_the_env_config_is_left_alone():
    config = EnvContext({"scenario": "simple_spread", "N": 2, "num_envs": 4}, worker_index=1)
    make_mpe(config)
    assert dict(config) == {"scenario": "simple_spread", "N": 2, "num_envs": 4}


def test_the_name_alone_is_simple_spread():
    assert type(make_mpe({})) is type(make_mpe({"scenario": "simple_spread"}))


@pytest.mark.parametrize("scenario", [None, "simple_tag", ["simple"]], ids=str)
def test_unknown_scenario(scenario):
    with pytest.raises(TeamError, match=r"_spread.*_reference.*_speaker_listener.*mpe2.*config"):
        make_mpe({"scenario": scenario})


@pytest.mark.parametrize(
    ("scenario", "setting", "value", "message"),
    [
        # N is simple_spread's alone; curriculum is mpe2's.
        ("simple_speaker_listener", "N", 3, r"does not know \['N'\].*max_cycles"),
        ("simple_speaker_listener", "local_ratio", 0.5, r"does not know \['local_ratio'\]"),
        ("simple_spread", "curriculum", True, r'"backend": "mpe2"'),
        ("simple_spread", "N", 0, "integer of at least 1, got 0"),
        ("simple_spread", "N", 2.5, "integer of at least 1, got 2.5"),
        ("simple_spread", "max_cycles", True, "integer of at least 1, got True"),
        ("simple_spread", "local_ratio", 1.5, r"number in \[0, 1\], got 1.5"),
        ("simple_spread", "continuous_actions", "no", "True or False, got 'no'"),
        ("simple_spread", "render_mode", "human", "'rgb_array' or None, got 'human'"),
        ("simple_spread", "backend", "jax", r"batched.*mpe2.*got 'jax'"),
    ],
)
def test_bad_settings(scenario, setting, value, message):
    with pytest.raises(TeamError, match=message) as error:
        make_mpe({"scenario": scenario, setting: value})
    assert f'config.environment("mpe", env_config={{"{setting}": ...}})' in str(error.value)


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpe2", None)
    monkeypatch.setitem(sys.modules, "mpe2.simple_spread_v3", None)
    make_mpe({"scenario": "simple_spread"})  # needs it for pictures only
    for config in ({"render_mode": "rgb_array"}, {"backend": "mpe2"}):
        with pytest.raises(MissingExtraError, match=r"rllib_hetero\[mpe\]"):
            make_mpe({"scenario": "simple_spread", **config})


# ---- mpe2's own, through our wrapper -----------------------------------------------------------


@pytest.mark.parametrize(("scenario", "continuous"), KINDS)
def test_the_wrapper_steps_like_mpe2s_own_parallel_environment(scenario, continuous):
    """`MPETeamEnv` leaves PettingZoo's wrappers out; what comes out must be the same."""
    config = {"scenario": scenario, "continuous_actions": continuous, "backend": "mpe2"}
    ours, plain = make_mpe(config), theirs(scenario, continuous_actions=continuous)
    rng = np.random.default_rng(0)
    for seed in (3, 4):
        a, _ = ours.reset(seed=seed)
        b, _ = plain.reset(seed=seed)
        while plain.agents:
            assert a.keys() == b.keys()
            for agent in a:
                np.testing.assert_array_equal(a[agent], b[agent])
            actions = {}
            for agent in plain.agents:
                space = plain.action_space(agent)
                actions[agent] = (
                    rng.uniform(-0.5, 1.5, space.shape).astype(np.float32)  # some out of bounds
                    if continuous
                    else int(rng.integers(space.n))
                )
            a, reward_a, _, _, _ = ours.step(actions)
            b, reward_b, _, truncated, _ = plain.step(actions)
            assert reward_a == reward_b
        assert all(truncated.values()) and not ours.agents


def test_scenarios_that_are_not_rebuilt():
    config = {"scenario": "simple_tag", "backend": "mpe2", "num_good": 1, "num_adversaries": 2}
    team = Team.from_env(make_mpe({**config, "reward_scheme": "shared"}))
    assert team.agents == ("adversary_0", "adversary_1", "agent_0")
    assert team.reward_scheme == "shared"
    with pytest.raises(TeamError, match=r"no scenario 'chess'.*simple_tag.*simple_world_comm"):
        make_mpe({"scenario": "chess", "backend": "mpe2"})
    with pytest.raises(TeamError, match=r"does not know \['num_bad'\]. It accepts.*num_good"):
        make_mpe({"scenario": "simple_tag", "backend": "mpe2", "num_bad": 1})
    with pytest.raises(TeamError, match=r"'individual' or 'shared', got 'mine'"):
        make_mpe({"scenario": "simple_tag", "backend": "mpe2", "reward_scheme": "mine"})
