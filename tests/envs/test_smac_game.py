"""SMAC on the real smacv2 and pysc2, with a stand-in for the game: launch, play, crash, clean up.

No StarCraft II is involved. The stand-in's dynamics are invented; that it is won or lost says
nothing about SMAC.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ray.rllib.env.env_context import EnvContext
from runner_toys import make_runner, small
from stand_ins.sc2_folder import Folder

from rllib_hetero import HAPPOConfig, check_env
from rllib_hetero.envs import make_smac, make_smacv2
from rllib_hetero.envs.smac import SMAC_MAPS, SMACV2_MAPS, GameFailure
from rllib_hetero.team import Team

pytest.importorskip("smacv2.env")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """SC2PATH; nothing of the games started from it may be left after the test."""
    folder = Folder.make(tmp_path / "StarCraftII")
    monkeypatch.setenv("SC2PATH", str(folder.path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield folder
    assert gone(folder)
    assert not list(tmp_path.glob("sc-*"))  # pysc2's temporary folders of games


def gone(folder, within=600.0):
    """Whether no process of a game is left, at the latest after some seconds."""
    end = time.monotonic() + within
    while folder.processes():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def battle(env, seed=None, *, steps=10**6):
    """Random allowed actions to the end, or for some steps: the observations, the last outcome."""
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=seed)
    seen, last = [observations], None
    while len(seen) <= steps:
        living = {a: o for a, o in observations.items() if a in env.agents}
        actions = {a: rng.choice(np.flatnonzero(o["action_mask"])) for a, o in living.items()}
        last = env.step(actions)
        observations = last[0]
        seen.append(observations)
        if last[2]["__all__"] or last[3]["__all__"]:
            break
    return seen, last


@pytest.mark.parametrize(
    ("make", "task", "observed", "state", "actions"),
    [
        (make_smacv2, "terran_5_vs_5", 82, 120, 11),
        (make_smacv2, "protoss_10_vs_11", 191, 327, 17),
        (make_smacv2, "zerg_20_vs_23", 346, 858, 29),
        (make_smac, "3m", 30, 48, 9),
        (make_smac, "3s5z", 128, 216, 14),
    ],
)
def test_battles(folder, make, task, observed, state, actions):
    folder.plan(harmless=True, wins_after=4, winner=1)
    env = make({"map": task})
    team = Team.from_env(env)
    assert len(team.agents) == (SMAC_MAPS.get(task) or SMACV2_MAPS[task][1:])[0]
    assert {team.observation_spaces[a].shape for a in team.agents} == {(observed,)}
    assert {team.action_spaces[a].n for a in team.agents} == {actions}
    assert team.state_space.shape == (state,)
    for _ in range(3):  # in one game
        seen, last = battle(env, seed=1)
        assert all(env.observation_spaces[a].contains(o) for x in seen for a, o in x.items())
        assert env.state_space.contains(env.state())
        assert len(seen) == 5
        assert last[2]["__all__"] and not last[3]["__all__"]
        assert env.episode_metrics()["win_rate"] == 1.0
        assert env.episode_metrics()["dead_enemies"] == env._battle.n_enemies
    assert len(folder.notes()) == 1
    assert len(folder.processes()) == 2  # supervisor and game
    env.close()
    assert folder.processes() == []


@pytest.mark.parametrize("make", [make_smac, make_smacv2])
def test_every_task_can_be_made_without_the_game(make):
    for task in SMAC_MAPS if make is make_smac else SMACV2_MAPS:
        env = make({"map": task})
        n, enemies, limit = SMAC_MAPS.get(task) or (*SMACV2_MAPS[task][1:], 200)
        assert len(env.possible_agents) == n
        assert (env._battle.n_enemies, env._battle.episode_limit) == (enemies, limit)
        env.close()


def test_a_lost_battle(folder):
    folder.plan(harmless=True, wins_after=3, winner=2)
    env = make_smac({"map": "3m"})
    seen, last = battle(env)
    assert len(seen) == 4
    assert last[2] == {**dict.fromkeys(env.possible_agents, True), "__all__": True}
    counted = {"win_rate": 0.0, "dead_allies": 3.0, "dead_enemies": 0.0}
    assert env.episode_metrics() == counted
    env.close()


def test_the_agent_specific_state_sees_everything(folder):
    env = make_smac({"map": "3m", "state": "agent_specific"})
    env.reset(seed=0)
    env.env.unit_sight_range = lambda agent: 0.01
    seen = np.concatenate(env.env.get_obs())
    assert env.state().shape == seen.shape == env.state_space.shape
    assert (env.state() != 0).sum() > (seen != 0).sum()
    env.env.fully_observable = True
    np.testing.assert_array_equal(env.state(), np.concatenate(env.env.get_obs()))
    env.close()


def test_a_death_and_the_time_limit(folder):
    folder.plan(harmless=True, dies_after=2)
    env = make_smac({"map": "3m"})
    seen, last = battle(env)
    assert len(seen) == 61  # the map's limit is 60 steps
    assert [len(x) for x in seen[:5]] == [3, 3, 3, 2, 2]
    dead = set(seen[2]) - set(seen[3])
    assert not any(seen[2][a]["observations"].any() for a in dead)
    assert last[3] == {**dict.fromkeys(set(env.possible_agents) - dead, True), "__all__": True}
    assert not any(last[2].values())
    # The final state, not that of a new battle: the dead agent's part of it is zeros.
    assert env.state().any()
    assert env.episode_metrics() == {"win_rate": 0.0, "dead_allies": 1.0, "dead_enemies": 0.0}
    env.close()


def test_agents_of_several_types_are_told_apart(folder):
    """Those of smacv2 itself are wrong, or raise, on SMAC's mixed maps."""
    folder.plan(harmless=True)
    env = make_smac({"map": "3s5z"})
    env.reset()
    types = env.state()[: 8 * 7].reshape(8, 7)[:, -2:]  # the end of each agent's part
    assert types.tolist() == [[1, 0]] * 3 + [[0, 1]] * 5
    env.close()


def test_seeds(folder):
    """In SMACv2 the seed decides the units and where they stand."""
    folder.plan_all(harmless=True, wins_after=1, winner=1)
    env = make_smacv2({"map": "terran_5_vs_5"})
    states = []
    for seed in (7, 7, 8):
        env.reset(seed=seed)
        states.append(env.state())
    env.close()
    assert np.array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])
    assert folder.notes()[0]["seed"] > 0


def test_a_reset_in_mid_battle_uses_the_same_game(folder):
    folder.plan_all(harmless=True)
    env = make_smac({"map": "3m"})
    for _ in range(3):
        battle(env, steps=2)
    env.close()
    assert len(folder.notes()) == 1


def test_a_frame(folder):
    folder.plan(harmless=True)
    env = make_smac({"map": "3m", "render_mode": "rgb_array"})
    env.reset()
    frame = env.render()
    assert frame.shape == (480, 480, 3) and frame.dtype == np.uint8
    colours = Counter(map(tuple, frame.reshape(-1, 3).tolist()))
    blue, red = colours[70, 150, 255], colours[235, 70, 60]
    # Three discs of radius 0.4 on each side of a field of 32.
    assert blue == pytest.approx(3 * np.pi * (0.4 * 480 / 32) ** 2, rel=0.1)
    assert red == pytest.approx(blue, rel=0.05)
    env.close()


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        ({"crash_after": 3, "children": True}, "has crashed"),
        ({"crash_at": "join_game"}, None),
        ({"crash_at": "launch"}, None),
        ({"crash_at": "debug"}, "has crashed"),
        ({"hang_after": 3, "children": True}, r"within 6 s.*step_timeout_s"),
        ({"hang_at": "launch", "children": True}, r"within 4 s.*launch_timeout_s"),
        ({"hang_at": "create_game"}, r"within 4 s.*launch_timeout_s"),
        # smacv2 then waits without end for units to die.
        ({"immortal": True, "harmless": True}, r"within 6 s.*step_timeout_s"),
    ],
    ids=lambda x: "-".join(map(str, x)) if isinstance(x, dict) else "",
)
def test_failures(folder, plan, match):
    folder.plan(**plan)
    # Short only where it is the time that must run out.
    config = {"map": "3m"}
    if match and "launch_timeout_s" in match:
        config["launch_timeout_s"] = 4
    elif match and "step_timeout_s" in match:
        config["step_timeout_s"] = 6
    env = make_smac(config)
    with pytest.raises(GameFailure if match else Exception, match=match):
        for _ in range(2):
            battle(env, steps=5)
    env.close()
    assert folder.processes() == []
    # A new one plays.
    env = make_smac({"map": "3m"})
    battle(env, steps=2)
    env.close()


def test_check_env_finds_no_error(folder):
    report = check_env("smac", env_config={"map": "3s5z"}, steps=100, num_envs=2)
    assert report.ok, report


def test_missing_game_is_told_at_once_on_a_runner(monkeypatch, tmp_path):
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    driver = make_smac({"map": "3m"})
    with pytest.raises(FileNotFoundError, match="SC2PATH"):
        driver.reset()
    driver.close()
    with pytest.raises(FileNotFoundError, match="SC2PATH"):
        make_smac(EnvContext({"map": "3m"}, worker_index=1))


_SCRIPT = """
import sys, time
from rllib_hetero.envs import make_smac
env = make_smac({"map": "3m"})
env.reset()
print("playing", flush=True)
if sys.argv[1] == "killed":
    time.sleep(3600)
"""


@pytest.mark.parametrize("end", ["killed", "exits"])
def test_a_process_that_ends_without_closing(folder, end):
    folder.plan(children=True)
    command = [sys.executable, "-c", _SCRIPT, end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "playing\n"
        assert end == "exits" or len(folder.processes()) == 3  # with the game's own child
        if end == "killed":
            process.kill()
        process.wait(timeout=600)
    assert gone(folder)


def test_a_killed_supervisor_takes_the_game_with_it(folder):
    env = make_smac({"map": "3m"})
    env.reset()
    os.kill(env.guard.game.pid, signal.SIGKILL)
    assert gone(folder)
    with pytest.raises(GameFailure, match="has crashed"):
        env.step(dict.fromkeys(env.agents, 1))
    env.close()


def test_closing_does_not_wait_for_a_game_that_hangs(folder):
    env = make_smac({"map": "3m"})
    env.reset()
    os.kill(folder.notes()[0]["pid"], signal.SIGSTOP)
    began = time.monotonic()
    env.close()
    assert folder.processes() == []
    assert time.monotonic() - began < 60  # pysc2 would wait for minutes
    env.guard._watcher.join(10)
    assert not env.guard._watcher.is_alive()


def test_the_runner_survives_games_that_crash_and_hang(folder):
    """Of two environments' games, one crashes and one hangs."""
    folder.plan(crash_after=5, harmless=True, wins_after=3, winner=1)
    folder.plan(hang_after=7, harmless=True, wins_after=3, winner=2)
    folder.plan_all(harmless=True, wins_after=3, winner=1)
    config = small(HAPPOConfig(), "smac", {"map": "3m", "step_timeout_s": 8}).fault_tolerance(
        restart_failed_sub_environments=True
    )
    runner = make_runner(config)
    (fragment,) = runner.sample(num_timesteps=24)
    assert fragment.problem is None
    # Every battle lasts 3 steps; environment 0 fails in its 5th step, environment 1 in its 7th.
    assert np.argwhere(~fragment.valid).tolist() == [[4, 0], [6, 1]]
    assert fragment.terminated[:, 0].nonzero()[0].tolist() == [2, 7, 10]
    assert fragment.terminated[:, 1].nonzero()[0].tolist() == [2, 5, 9]
    metrics = runner.get_metrics()
    assert metrics["num_env_failures_lifetime"].peek() == 2
    # Environment 0 wins three times; environment 1 loses twice, and wins in its second game.
    assert metrics["win_rate"].peek() == pytest.approx(4 / 6)
    assert metrics["num_env_steps_sampled"].peek() == 22
    assert len(folder.notes()) == 4
    assert len(folder.processes()) == 4
    runner.stop()
    assert folder.processes() == []


def test_the_example_trains(folder, ray_local):
    """`test_examples.py` leaves it out, as it has no game."""
    path = Path(__file__).parents[2] / "tuned_examples" / "happo" / "smacv2.py"
    spec = importlib.util.spec_from_file_location("smacv2_example", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    config = script.make_config(script.parser.parse_args([]))
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=2)
    config.training(train_batch_size_per_learner=100, minibatch_size=None, num_epochs=1)
    algo = config.build_algo()
    result = algo.train()
    assert len(folder.processes()) == 4
    algo.stop()
    assert folder.processes() == []
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 100
    assert 0 <= result["env_runners"]["win_rate"] <= 1
    for module in algo.config.layout.groups:
        assert np.isfinite(result["learners"][module]["entropy"])
    smac = script.make_config(script.parser.parse_args(["--map", "3s5z"]))
    assert (smac.env, smac.env_config) == ("smac", {"map": "3s5z"})
