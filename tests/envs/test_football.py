"""Google Research Football: what needs no game. `test_football_game.py` has the rest."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rllib_hetero.envs.football import make_football
from rllib_hetero.envs.football.behaviours import Behaviours
from rllib_hetero.envs.football.engine import gym_stand_in
from rllib_hetero.envs.football.features import global_state, simple115v2
from rllib_hetero.envs.football.game import FootballTeamEnv
from rllib_hetero.envs.football.rewards import Checkpoints
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import Team

PASS_AND_SHOOT = "academy_pass_and_shoot_with_keeper"
SHORT_PASS, SHOT = 11, 12


def raw(owner=(-1, -1), *, score=(0, 0), mode=0, ball=(0.0, 0.0, 0.0), left=399, active=(1, 2)):
    """A raw observation of 3 against 2; owner is (team, player), left the steps to go."""
    return {
        "left_team": np.arange(6).reshape(3, 2) / 10,
        "left_team_direction": np.arange(6).reshape(3, 2) / 100,
        "right_team": -np.arange(4).reshape(2, 2) / 10,
        "right_team_direction": -np.arange(4).reshape(2, 2) / 100,
        "left_agent_controlled_player": list(active),
        "ball": np.array(ball),
        "ball_direction": np.array([0.1, 0.2, 0.3]),
        "ball_owned_team": owner[0],
        "ball_owned_player": owner[1],
        "game_mode": mode,
        "score": list(score),
        "steps_left": left,
    }


# --- Behaviours, by hand ------------------------------------------------------------------------

NOBODY, FIRST, SECOND, KEEPER, RIVAL = (-1, -1), (0, 1), (0, 2), (0, 0), (1, 1)


def counted(start, *steps):
    """Behaviours after steps of (actions, owner) or (actions, owner, changes of the raw)."""
    behaviours = Behaviours(raw(start))
    for actions, owner, *more in steps:
        behaviours.step(actions, raw(owner, **(more[0] if more else {})))
    return {name: x for name, x in behaviours.counts().items() if x}


def test_a_pass_that_arrives():
    steps = ([SHORT_PASS, 0], FIRST), ([SHORT_PASS, 0], NOBODY), ([0, 0], SECOND)
    assert counted(FIRST, *steps) == {"pass": 1, "pass_rate": 1}


def test_one_of_two_passes_goes_to_the_other_team():
    steps = ([9, 0], SECOND), ([0, 10], NOBODY), ([0, 0], RIVAL)
    assert counted(FIRST, *steps) == {"pass": 2, "pass_rate": 0.5, "turnover": 1}


def test_no_pass_without_the_action_of_the_one_who_has_the_ball():
    assert counted(FIRST, ([0, SHORT_PASS], NOBODY), ([0, 0], SECOND)) == {}
    assert counted(RIVAL, ([SHORT_PASS, 0], RIVAL), ([0, 0], SECOND)) == {}
    assert counted(KEEPER, ([SHORT_PASS, SHORT_PASS], SECOND)) == {}  # the keeper is nobody's


def test_a_pass_is_open_until_somebody_has_the_ball():
    assert counted(FIRST, ([SHORT_PASS, 0], NOBODY)) == {}
    # The same player again: its spell goes on, and the pass is counted once.
    steps = ([SHORT_PASS, 0], NOBODY), ([0, 0], FIRST), ([SHORT_PASS, 0], SECOND)
    assert counted(FIRST, *steps) == {"pass": 1, "pass_rate": 1}


def test_a_pass_out_of_play_fails():
    steps = ([SHORT_PASS, 0], NOBODY), ([0, 0], NOBODY, {"mode": 5}), ([0, 0], SECOND, {"mode": 5})
    assert counted(FIRST, *steps) == {"pass": 1}


def test_an_assist():
    steps = ([SHORT_PASS, 0], NOBODY), ([0, 0], SECOND), ([0, SHOT], NOBODY)
    goal = ([0, 0], NOBODY, {"score": (1, 0)})
    expected = {"goal": 1, "assist": 1, "pass": 1, "pass_rate": 1}
    assert counted(FIRST, *steps, goal) == expected
    # Kick-off for the others is no turnover, and no second assist.
    after = ([0, 0], RIVAL, {"score": (1, 0), "mode": 1}), ([0, 0], RIVAL, {"score": (1, 0)})
    assert counted(FIRST, *steps, goal, *after) == expected


def test_a_goal_without_an_assist():
    goal = ([0, 0], NOBODY, {"score": (1, 0)})
    assert counted(FIRST, ([SHOT, 0], NOBODY), goal) == {"goal": 1}
    assert counted(RIVAL, ([0, 0], FIRST), ([SHOT, 0], NOBODY), goal) == {"goal": 1}
    # The others touched it in between; then a stop of the game.
    touched = ([0, 0], RIVAL), ([0, 0], SECOND), goal
    assert counted(FIRST, *touched) == {"goal": 1, "turnover": 1}
    stopped = ([0, 0], NOBODY, {"mode": 3}), ([0, 0], SECOND, {"mode": 3}), ([0, 0], SECOND), goal
    assert counted(FIRST, *stopped) == {"goal": 1}
    # A pass that goes in is a shot.
    assert counted(FIRST, ([SHORT_PASS, 0], NOBODY), goal) == {"goal": 1}


def test_a_conceded_goal():
    goal = ([0, 0], NOBODY, {"score": (0, 1)})
    assert counted(FIRST, ([0, 0], RIVAL), goal) == {"lost": 1, "turnover": 1}
    # An own goal after a teammate's pass.
    assert counted(FIRST, ([0, 0], SECOND), goal) == {"lost": 1}


# --- Features and rewards, by hand --------------------------------------------------------------


def test_features():
    seen = raw((0, 2), mode=4, ball=(0.5, -0.1, 0.2))
    x = simple115v2(seen)
    assert x.shape == (2, 115)
    assert x.dtype == np.float32
    expected = np.full(115, -1.0)
    expected[0:6] = [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    expected[22:28] = [0, 0.01, 0.02, 0.03, 0.04, 0.05]
    expected[44:48] = [0, -0.1, -0.2, -0.3]
    expected[66:70] = [0, -0.01, -0.02, -0.03]
    expected[88:94] = [0.5, -0.1, 0.2, 0.1, 0.2, 0.3]
    expected[94:97] = [0, 1, 0]
    expected[97:115] = 0
    expected[[98, 112]] = 1
    assert x[0] == pytest.approx(expected)
    expected[[98, 99]] = [0, 1]
    assert x[1] == pytest.approx(expected)
    state = global_state(x)
    assert state.shape == (126,)
    assert state == pytest.approx([*x[0, :97], *x[0, 108:], *x[0, 97:108], *x[1, 97:108]])


def test_checkpoints():
    checkpoints = Checkpoints(2)
    # 0.5 from the goal: the distances 0.99, 0.901, ..., 0.546 are reached, not 0.457.
    assert checkpoints.collect(raw(FIRST, ball=(0.5, 0, 0)), 0) == pytest.approx([0.6, 0])
    assert checkpoints.collect(raw(FIRST, ball=(0.4, 0, 0)), 0) == [0, 0]
    assert checkpoints.collect(raw(NOBODY, ball=(0.9, 0, 0)), 0) == [0, 0]
    assert checkpoints.collect(raw(RIVAL, ball=(0.9, 0, 0)), 0) == [0, 0]
    assert checkpoints.collect(raw(SECOND, ball=(1, -0.98, 0)), 0) == pytest.approx([0, 0.1])
    assert checkpoints.collect(raw(NOBODY), 1) == pytest.approx([0.4, 0.9])
    assert checkpoints.collect(raw(FIRST, ball=(0.9, 0, 0)), 0) == [0, 0]


# --- The environment around a scripted game -----------------------------------------------------


class Script:
    """A game that returns what it is told: (raw, score reward, done) for each step."""

    def __init__(self, start, *steps):
        self._start, self._steps = start, steps

    def reset(self):
        self._next = iter(self._steps)

    def observation(self):
        return self._start

    def step(self, actions):
        self.actions = actions
        return *next(self._next), {}

    def render(self, mode):
        assert mode == "rgb_array"
        self.drawing = True
        return np.zeros((4, 6, 3), np.uint8)

    def disable_render(self):
        self.drawing = False

    def close(self):
        pass


class Rules(dict):
    def __init__(self, **ends):
        names = ("score", "out_of_play", "possession_change")
        flags = {f"end_episode_on_{name}": ends.get(name, False) for name in names}
        self.ScenarioConfig = lambda: SimpleNamespace(**flags)


def scripted(*steps, start=None, rules=None, **settings):
    core = Script(start or raw(FIRST), *steps)
    env = FootballTeamEnv(core, Rules() if rules is None else rules, num_agents=2, **settings)
    env.reset(seed=0)
    return env


def play(env, steps=1, actions=(0, 0)):
    for _ in range(steps):
        outcome = env.step(dict(zip(env.possible_agents, actions, strict=True)))
    return outcome


def test_team():
    env = scripted()
    team = Team.from_env(env)
    assert team.agents == ("player_0", "player_1")
    assert team.reward_scheme == "shared"
    assert {s.n for s in team.action_spaces.values()} == {19}
    assert {s.shape for s in team.observation_spaces.values()} == {(115,)}
    assert team.state_space.shape == (126,)


def test_observations_state_and_actions():
    steps = [(raw(SECOND), 0, False), (raw(NOBODY), 0, False)]
    env = scripted(*steps)
    for seen, *_ in steps:
        observations, *_ = play(env, actions=(np.int64(3), 18))
        rows = simple115v2(seen)
        assert np.array_equal(observations["player_0"], rows[0])
        assert np.array_equal(observations["player_1"], rows[1])
        assert np.array_equal(env.state(), global_state(rows))
        assert env.state().dtype == np.float32
    assert env._core.actions == [3, 18]
    assert type(env._core.actions[0]) is int


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"checkpoints": False}, [(1, 1), (-1, -1)]),
        ({}, [(1.4, 1.4), (-1, -1)]),
        ({"reward_scheme": "individual"}, [(1.4, 2), (-1, -1)]),
    ],
)
def test_rewards(settings, expected):
    near = raw(FIRST, ball=(0.5, 0, 0))
    goals = (raw(score=(1, 0)), 1, False), (raw(score=(1, 1)), -1, False)
    env = scripted((near, 0, False), *goals, **settings)
    first = 0.6 if settings != {"checkpoints": False} else 0
    second = 0 if settings.get("reward_scheme") == "individual" else first
    for a, b in [(first, second), *expected]:
        assert list(play(env)[1].values()) == pytest.approx([a, b])


ENDS = {
    "a goal": (raw(score=(1, 0), left=9), {}, True),
    "the limit": (raw(FIRST, left=0), {"score": True, "possession_change": True}, False),
    "a goal at the limit": (raw(score=(1, 0), left=0), {"score": True}, True),
    "a goal in a match at its end": (raw(score=(1, 0), left=0), {}, False),
    "the ball lost at the limit": (raw(RIVAL, left=0), {"possession_change": True}, True),
    "the ball lost in a match at its end": (raw(RIVAL, left=0), {}, False),
    "out of play at the limit": (raw(mode=4, left=0), {"out_of_play": True}, True),
}


@pytest.mark.parametrize("what", ENDS)
def test_ends(what):
    last, rules, terminal = ENDS[what]
    env = scripted((raw(NOBODY), 0, False), (last, 0, True), rules=Rules(**rules))
    _, _, terminated, truncated, _ = play(env)
    assert not any(terminated.values()) and not any(truncated.values())
    observations, _, terminated, truncated, _ = play(env)
    assert set(terminated.values()) == {terminal}
    assert set(truncated.values()) == {not terminal}
    assert env.agents == []
    assert np.array_equal(observations["player_1"], simple115v2(last)[1])  # the final one
    env.reset()
    assert env.agents == env.possible_agents


def test_max_steps():
    env = scripted(*[(raw(FIRST), 0, False)] * 3, max_steps=3)
    assert not play(env, 2)[3]["__all__"]
    assert play(env)[3] == {"player_0": True, "player_1": True, "__all__": True}


def test_episode_metrics():
    steps = (raw(SECOND), 0, False), (raw(score=(1, 0)), 1, False), (raw(score=(1, 1)), -1, False)
    env = scripted(*steps)
    play(env, actions=(SHORT_PASS, 0))
    assert env.episode_metrics()["score_rate"] == 0
    play(env)
    expected = {"score_rate": 1, "win_rate": 1, "goal": 1, "lost": 0, "assist": 1, "pass": 1}
    assert env.episode_metrics() == {**expected, "pass_rate": 1, "turnover": 0}
    play(env)
    assert env.episode_metrics() == {**env.episode_metrics(), "win_rate": 0, "lost": 1}
    env.reset()
    assert not any(env.episode_metrics().values())


def test_seeds_reach_the_game():
    env = scripted()

    def drawn(*seeds):
        for seed in seeds:
            env.reset(seed=seed)
        return dict(env._config)

    assert drawn(1) == drawn(1) != drawn(2)
    # Every episode its own noise, and nothing left of the episodes before.
    assert drawn(1, None) == drawn(5, 1, None)
    assert drawn(1, None) != drawn(1)
    sides = [drawn(s)["episode_number"] % 2 for s in range(20)]
    assert set(sides) == {0, 1}


def test_render():
    assert scripted().render() is None
    env = scripted(render_mode="rgb_array")
    assert env.render().shape == (4, 6, 3)
    assert not env._core.drawing  # further steps do not draw
    other = scripted(render_mode="rgb_array")
    with pytest.raises(TeamError, match="one environment per process"):
        other.render()
    env.close()
    assert other.render() is not None
    other.close()


# --- Settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"scenario": "academy_empty_goal"},
        {"scenario": None},
        {"num_agents": 4},
        {"num_agents": 0},
        {"num_agents": True},
        {"num_agents": 2.0},
        {"rewards": "checkpoints"},
        {"representation": "extracted"},
        {"representation": None},
        {"reward_scheme": "mean"},
        {"max_steps": 0},
        {"render_mode": "human"},
        {"stacked": True},
    ],
)
def test_bad_settings(bad):
    (key,) = bad
    with pytest.raises(TeamError, match=rf'(?s){key}.*config.environment\("football".*"{key}"'):
        make_football({"scenario": PASS_AND_SHOOT, **bad})


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "gfootball_engine", None)
    with pytest.raises(MissingExtraError, match=r"(?s)\[football\].*build_football_wheel\.sh"):
        make_football({"scenario": PASS_AND_SHOOT})


def test_gym_is_stood_in_for_only_while_needed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "gym", raising=False)
    with gym_stand_in():
        import gym
        from gym.envs.registration import register

        assert isinstance(gym.Wrapper, type)
        register(id="x")
    assert not [name for name in sys.modules if name.split(".")[0] == "gym"]
