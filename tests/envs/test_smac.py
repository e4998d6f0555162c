"""SMAC's adapter and settings, against a fake of smacv2's Python interface; needs no package."""

import random
import sys
import time

import numpy as np
import pytest
from ray.rllib.env.env_context import EnvContext
from ray.tune import register_env
from runner_toys import make_runner, small
from stand_ins.smacv2_fake import FakeBattle

from rllib_hetero import HAPPOConfig, check_env
from rllib_hetero.envs import ENVIRONMENTS, make_smac, make_smacv2
from rllib_hetero.envs.smac import SMAC_MAPS, SMACV2_MAPS, GameFailure, SMACTeamEnv
from rllib_hetero.envs.smac.env import _seeded
from rllib_hetero.envs.smac.game import Game, check_game
from rllib_hetero.envs.smac.maps import smacv2_arguments
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import Team


@pytest.fixture(autouse=True)
def without_pysc2(monkeypatch):
    """The fake starts no game, so pysc2 need not be told how to."""
    monkeypatch.setattr("rllib_hetero.envs.smac.game._add_run_config", lambda: None)


def team_env(**battle):
    return SMACTeamEnv(FakeBattle(**battle))


def play(env, seed=None):
    """All returns of one battle, the reset's first; every living agent stops (action 1)."""
    log = [env.reset(seed=seed)]
    while True:
        log.append(env.step(dict.fromkeys(env.agents, 1)))
        if log[-1][2]["__all__"] or log[-1][3]["__all__"]:
            return log


def test_the_team():
    env = team_env()
    team = Team.from_env(env)
    assert team.agents == ("agent_0", "agent_1", "agent_2")
    assert team.masked == set(team.agents)
    assert team.reward_scheme == "shared"
    assert [team.observation_spaces[a].shape for a in team.agents] == [(4,)] * 3
    assert [team.action_spaces[a].n for a in team.agents] == [7] * 3
    assert team.state_space.shape == (5,)
    observations, _ = env.reset(seed=1)
    assert all(env.observation_spaces[a].contains(x) for a, x in observations.items())
    assert observations["agent_2"]["observations"].tolist() == [2, 0, 0, 1]
    assert observations["agent_2"]["action_mask"].tolist() == [0, 1, 0, 1, 1, 1, 0]
    assert env.state_space.contains(env.state())
    env.close()


def test_the_agent_specific_state_holds_all_parts():
    env = SMACTeamEnv(FakeBattle(deaths={2: 1}), agent_specific_state=True)
    assert Team.from_env(env).state_space.shape == (12,)
    env.reset(seed=1)
    for _ in range(2):
        env.step(dict.fromkeys(env.agents, 1))
    # Of agent, step, battle, 1: each 0.5 more where the sight has no limit.
    expected = [0.5, 2.5, 0.5, 1.5, *[0.0] * 4, 2.5, 2.5, 0.5, 1.5]
    assert env.state().tolist() == expected and env.state().dtype == np.float32
    env.close()


def test_agents_die_one_by_one():
    env = team_env(length=5, deaths={2: 1, 4: 0})
    log = play(env)
    agents = [sorted(step[0]) for step in log]
    everyone = ["agent_0", "agent_1", "agent_2"]
    rest = ["agent_0", "agent_2"]
    assert agents == [everyone, everyone, everyone, rest, rest, ["agent_2"]]
    dying = log[2]
    assert dying[2] == {"agent_0": False, "agent_1": True, "agent_2": False, "__all__": False}
    assert dying[1] == dict.fromkeys(everyone, 1.0)
    assert not dying[0]["agent_1"]["observations"].any()
    assert dying[0]["agent_1"]["action_mask"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    # smacv2 is told that the dead do nothing.
    assert env.env.asked == [[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 1]]
    assert log[-1][2] == {"agent_2": True, "__all__": True}
    assert env.agents == []
    env.close()


def test_each_agents_own_action_arrives():
    env = team_env(deaths={1: 1})
    env.reset()
    env.step({"agent_2": np.int64(5), "agent_0": 3, "agent_1": 1})
    env.step({"agent_2": 4, "agent_0": 6})
    assert env.env.asked == [[3, 1, 5], [6, 0, 4]]
    env.close()


@pytest.mark.parametrize(("end", "won"), [("won", 1.0), ("lost", 0.0)])
def test_a_battle_that_is_decided_terminates(end, won):
    env = team_env(length=3, end=end, deaths={1: 0})
    last = play(env)[-1]
    assert last[2]["__all__"] and not last[3]["__all__"]
    assert not any(last[3].values())
    assert env.episode_metrics() == {"win_rate": won, "dead_allies": 1.0, "dead_enemies": won}
    env.close()


def test_a_battle_without_a_decision_is_truncated():
    env = team_env(length=3, end="limit", deaths={3: 2})
    last = play(env)[-1]
    assert last[3] == {"agent_0": True, "agent_1": True, "agent_2": False, "__all__": True}
    assert last[2] == {"agent_0": False, "agent_1": False, "agent_2": True, "__all__": False}
    # The true final state and observations, not those of a new battle.
    assert env.state().tolist() == [3, 3, 1, 0, 0]
    assert last[0]["agent_0"]["observations"].tolist() == [0, 3, 1, 1]
    assert env.episode_metrics()["win_rate"] == 0.0
    env.close()


def test_a_reset_in_the_first_battle_does_not_start_a_second_game():
    env = team_env()
    env.reset()
    env.step(dict.fromkeys(env.agents, 1))
    env.reset()
    play(env)
    assert env.env.launches == 1
    env.close()


def test_a_lost_connection_is_a_failure_and_not_a_lost_battle():
    env = team_env(lost_at=2)
    with pytest.raises(GameFailure, match="has crashed"):
        play(env)
    assert env.env.launches == 1
    env.close()
    assert env.env.closed


def test_a_call_that_takes_too_long():
    env = SMACTeamEnv(FakeBattle(before_step=lambda: time.sleep(3)), step_timeout_s=1)
    env.reset()
    with pytest.raises(GameFailure, match=r"within 1 s.*step_timeout_s"):
        env.step(dict.fromkeys(env.agents, 1))
    env.close()


def test_the_watchdog_kills_the_game(tmp_path):
    """A blocked read ends once the game is dead; what it raises becomes a `GameFailure`."""
    env = SMACTeamEnv(FakeBattle(), step_timeout_s=1)
    env.reset()
    game = env.guard.game = Game(["sleep", "3600"], str(tmp_path / "sc"))

    def read():
        while game.poll() is None:
            time.sleep(0.01)
        raise ConnectionError("nobody there")

    env.env.before_step = read
    with pytest.raises(GameFailure, match="did not answer") as caught:
        env.step(dict.fromkeys(env.agents, 1))
    assert isinstance(caught.value.__cause__, ConnectionError)
    env.close()


def test_other_errors_stay_what_they_are():
    def fail():
        raise KeyError("of smacv2")

    env = team_env(before_step=fail)
    env.reset()
    with pytest.raises(KeyError, match="of smacv2"):
        env.step(dict.fromkeys(env.agents, 1))
    env.close()


class Drawn:
    """Like smacv2's distributions: a generator, and others within."""

    def __init__(self, *within):
        self.rng = np.random.default_rng()
        self.within = within[0] if within else None

    def generate(self):
        drawn = [float(self.rng.random()), random.random()]
        return drawn + (self.within.generate() if self.within else [])


def test_seeds_decide_what_is_drawn_and_leave_the_rest_alone():
    def drawn(seed):
        env = FakeBattle()
        env.env_key_to_distribution_map = {"a": Drawn(Drawn()), "b": Drawn()}
        with _seeded(env, seed):
            return [x.generate() for x in env.env_key_to_distribution_map.values()]

    random.seed(5)
    first = drawn(1)
    random.seed(6)
    before = random.getstate()
    assert drawn(1) == first != drawn(2)
    assert random.getstate() == before
    assert len(set(np.ravel(drawn(1)[0] + drawn(1)[1]).tolist())) == 6
    assert drawn(None) != drawn(None)


def test_check_env_finds_nothing():
    report = check_env(lambda config: team_env(deaths={2: 1}), steps=200, num_envs=3)
    assert report.ok and not [f for f in report.findings if f.severity == "warning"], report


def test_metrics_and_masks_arrive_through_the_runner():
    register_env("fake_smac", lambda config: team_env(length=4, deaths={2: 1}))
    config = small(HAPPOConfig(), "fake_smac")
    runner = make_runner(config)
    (fragment,) = runner.sample(num_timesteps=16)
    assert fragment.problem is None
    assert fragment.terminated.sum() == 4
    # After a battle's second step, agent_1 is dead in the two that follow.
    assert fragment.active["agent_1"][:, 0, 0].tolist() == [True, True, False, False] * 2
    metrics = runner.get_metrics()
    assert metrics["win_rate"].peek() == 1.0
    assert metrics["dead_allies"].peek() == 1.0
    # The reward 0.5 * (1 + 2 + 3 + 4), counted once.
    assert metrics["episode_return_mean"].peek() == 5.0
    runner.stop()


def test_the_tasks():
    assert set(ENVIRONMENTS) >= {"smac", "smacv2"}
    assert len(SMAC_MAPS) == 23
    assert len(SMACV2_MAPS) == 15
    assert SMACV2_MAPS["zerg_20_vs_23"] == ("zerg", 20, 23)
    task = smacv2_arguments("terran_10_vs_11")
    assert task["map_name"] == "10gen_terran"
    drawn = task["capability_config"]
    assert (drawn["n_units"], drawn["n_enemies"]) == (10, 11)
    assert drawn["team_gen"]["unit_types"] == ["marine", "marauder", "medivac"]
    assert drawn["start_positions"]["p"] == 0.5
    for race, rare in [("protoss", "colossus"), ("terran", "medivac"), ("zerg", "baneling")]:
        team = smacv2_arguments(f"{race}_5_vs_5")["capability_config"]["team_gen"]
        chances = dict(zip(team["unit_types"], team["weights"], strict=True))
        assert chances.pop(rare) == 0.1
        assert list(chances.values()) == [0.45, 0.45]
    drawn["team_gen"]["weights"].clear()  # smacv2 writes into what it is given
    assert smacv2_arguments("terran_10_vs_11")["capability_config"]["team_gen"]["weights"]


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({}, r"Unknown `map` None.*3s5z.*env_config=\{\"map\""),
        ({"map": "terran_5_vs_5"}, "Unknown `map`"),
        ({"map": ["3m"]}, "Unknown `map`"),
        ({"map": "3m", "step_timeout_s": 0}, "`step_timeout_s` must be a positive number"),
        ({"map": "3m", "launch_timeout_s": "1"}, "`launch_timeout_s` must be a positive"),
        ({"map": "3m", "state": "pruned"}, r"`state` must be one of \['all_units', 'agent_sp"),
        ({"map": "3m", "render_mode": "human"}, "`render_mode` must be 'rgb_array' or None"),
        ({"map": "3m", "agents": 3}, "does not know 'agents'.*difficulty"),
        ({"map": "3m", "map_name": "3m"}, "`map_name` cannot be set.*`map`"),
        ({"map": "3m", "action_mask": False}, "`action_mask` cannot be set"),
        ({"map": "3m", "seed": 3}, r"`seed` cannot be set.*debugging\(seed"),
        ({"map": "3m", "reward_sparse": 1}, "`reward_sparse` must be True or False"),
        ({"map": "3m", "step_mul": 0}, "`step_mul` must be an int of at least 1"),
        ({"map": "3m", "difficulty": 7}, "`difficulty` must be one of"),
        ({"map": "3m", "reward_win": float("nan")}, "`reward_win` must be a finite number"),
        ({"map": "3m", "reward_scale_rate": 0}, "`reward_scale_rate` must be a positive"),
        ({"map": "3m", "prob_obs_enemy": 1.5}, "`prob_obs_enemy` must be a number of 0 to 1"),
        ({"map": "3m", "replay_dir": 3}, "`replay_dir` must be a string"),
    ],
)
def test_wrong_settings(config, match):
    with pytest.raises(TeamError, match=match) as caught:
        make_smac(config)
    assert 'config.environment("smac", env_config=' in str(caught.value)


def test_smacv2_has_tasks_of_its_own():
    with pytest.raises(TeamError, match=r"Unknown `map` '3m'.*protoss_5_vs_5.*\"smacv2\""):
        make_smacv2({"map": "3m"})


@pytest.mark.parametrize("module", ["smacv2.env", "pysc2.run_configs"])
def test_missing_packages(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    monkeypatch.setitem(sys.modules, module, None)
    config = EnvContext({"map": "3m", "num_envs": 2}, worker_index=0)
    with pytest.raises(MissingExtraError, match=r"rllib_hetero\[smac\].*\n.*--no-deps"):
        make_smac(config)


def test_missing_game(monkeypatch, tmp_path):
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"SC2_x64.*SC2PATH"):
        check_game("3m")
    program = tmp_path / "Versions" / "Base75689" / "SC2_x64"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    with pytest.raises(FileNotFoundError, match=r"3m\.SC2Map was not found.*SMAC_Maps"):
        check_game("3m")
    (tmp_path / "Maps" / "SMAC_Maps").mkdir(parents=True)
    (tmp_path / "Maps" / "SMAC_Maps" / "3m.SC2Map").touch()
    check_game("3m")
