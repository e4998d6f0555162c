"""What a run leaves behind: table, picture, record, checkpoint, video."""

import contextlib
import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import MatrixTeam

pytest.importorskip("mpe2")

from rllib_hetero import HAPPOConfig, TeamError, load_policies
from rllib_hetero.algorithms.on_policy.happo import HAPPO
from rllib_hetero.envs import make_mpe, register_environments
from rllib_hetero.reporting import play_episode, record_episode, run_training
from rllib_hetero.reporting.checkpoints import save
from rllib_hetero.reporting.curve import on_common_steps, read_column, save_curves, smooth
from rllib_hetero.reporting.example import example_parser, run_example
from rllib_hetero.reporting.playing import as_one_row, make_one, play
from rllib_hetero.reporting.progress import (
    COLUMNS,
    EVALUATION,
    ProgressFile,
    clock,
    progress_line,
    row_of,
)
from rllib_hetero.runners.single_env import SingleTeamEnv

MPE = {"scenario": "simple_spread"}


def tiny_config(algo_class=None):
    return (
        HAPPOConfig(algo_class=algo_class)
        .environment("mpe", env_config=MPE)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .rl_module(model_config={"hidden_sizes": [16]})
        .training(train_batch_size_per_learner=200, num_epochs=1)
        .debugging(seed=1)
    )


@pytest.fixture(scope="module")
def ray_is_up(ray_local):
    register_environments()  # an earlier Ray of this process took the names with it


@pytest.fixture(scope="module")
def run(ray_is_up, tmp_path_factory):
    return run_training(tiny_config(), env_steps=600, out=tmp_path_factory.mktemp("run") / "a")


class FailsInTheThird(HAPPO):
    def training_step(self):
        if self.training_iteration == 2:
            raise RuntimeError("the simulator is gone")
        super().training_step()


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def is_drawn(png):
    from matplotlib.image import imread

    picture = imread(png)
    return picture.shape[0] > 300 and picture[..., :3].std() > 0.01


def test_a_run_leaves_table_picture_and_record(run):
    rows = rows_of(run.csv)
    assert [int(r["env_steps"]) for r in rows] == [200, 400, 600]
    assert run.env_steps == 600
    assert float(rows[-1]["episode_return_mean"]) == run.episode_return_mean < 0
    assert float(rows[-1]["learner/agent_0/mean_kl"]) >= 0
    assert is_drawn(run.curve)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["algorithm"] == "HAPPO"
    assert record["env_config"] == MPE
    assert record["config"]["seed"] == record["config"]["update_order_seed"] == 1
    assert record["return_convention"] == "team return = sum over agents"
    assert set(record["versions"]) == {"rllib_hetero", "ray", "torch"}


def test_the_checkpoint_acts(run):
    env = SingleTeamEnv(make_mpe(MPE))
    actions = load_policies(run.checkpoint).act(env.reset(seed=0)[0])
    assert set(actions) == {"agent_0", "agent_1", "agent_2"}
    assert not list(run.folder.glob("checkpoint.*"))


def test_a_run_is_not_overwritten(run):
    with pytest.raises(FileExistsError, match="holds a run already"):
        run_training(tiny_config(), env_steps=600, out=run.folder)


def test_what_is_printed(ray_is_up, tmp_path, capsys):
    result = run_training(tiny_config(), env_steps=400, out=tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("team return = sum over agents") == 2  # at the start, with the result
    lines = re.findall(r"^(\d+)/400 steps \| team return -\d.* left \d+:\d\d:\d\d$", printed, re.M)
    assert lines == ["200", "400"]
    assert str(result.checkpoint) in printed
    run_training(tiny_config(), env_steps=200, out=tmp_path / "quiet", quiet=True)
    assert capsys.readouterr().out == ""


def test_evaluation_is_reported(ray_is_up, tmp_path, capsys):
    config = tiny_config().evaluation(evaluation_interval=2, evaluation_duration=2)
    result = run_training(config, env_steps=400, out=tmp_path)
    first, second = (r["evaluation/episode_return_mean"] for r in rows_of(result.csv))
    assert first == "" and float(second) < 0
    assert f"evaluation {float(second):.2f}" in capsys.readouterr().out


def test_a_failure_keeps_table_and_checkpoint(ray_is_up, tmp_path):
    config = tiny_config(FailsInTheThird)
    with pytest.raises(RuntimeError, match="the simulator is gone"):
        run_training(config, env_steps=2000, out=tmp_path, checkpoint_every=1)
    assert len(rows_of(tmp_path / "progress.csv")) == 2
    assert load_policies(tmp_path / "checkpoint").agents


def test_a_crash_while_saving_keeps_the_previous_checkpoint(tmp_path):
    class Algo:
        def save_to_path(self, path, previous=None):
            Path(path).mkdir()
            (Path(path) / "half").write_text("new")
            if broken:
                raise OSError("disk full")

    broken = False
    save(Algo(), tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "half").write_text("old")
    broken = True
    with pytest.raises(OSError, match="disk full"):
        save(Algo(), tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "half").read_text() == "old"
    broken = False
    save(Algo(), tmp_path / "checkpoint")
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
    assert (tmp_path / "checkpoint" / "half").read_text() == "new"


SCRIPT = """
import ray
from test_reporting import run_training, tiny_config
for name, env_steps in (("first", 200), ("second", 10**9)):
    run_training(tiny_config(), env_steps=env_steps, out={out!r} + "/" + name)
    assert not ray.is_initialized()
"""


@pytest.mark.slow
def test_runs_with_rays_of_their_own_and_sigterm(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    ray_folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short, for Ray's sockets
    settings = {"PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": ray_folder}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(out=str(tmp_path))],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if "1,000,000,000 steps" in line:
                process.terminate()
                break
        process.communicate(timeout=600)
    shutil.rmtree(ray_folder, ignore_errors=True)
    assert process.returncode == 128 + signal.SIGTERM
    out = tmp_path / "second"
    assert len(rows_of(out / "progress.csv")) >= 1
    assert is_drawn(out / "curve.png")
    assert load_policies(out / "checkpoint").agents


# ---- the pieces ---------------------------------------------------------------------------------


def test_off_policy_runs_show_their_replay_and_updates():
    result = {
        "env_runners": {"num_env_steps_sampled": 1000},
        "learners": {"__all_modules__": {"replay_fill": 0.125, "updates": 50}},
    }
    row = row_of(result, iteration=1, env_steps=1000, wall_s=4.0, steps_per_s=250.0)
    assert row["replay_fill"] == 0.125
    assert row["updates_per_s"] == 12.5  # 50 updates in 1000 steps, which took 4 seconds
    line = progress_line(row, target=2000, left_s=4.0)
    assert "250 steps/s | 12 updates/s | replay 12.5% full | left 0:00:04" in line


def test_an_iteration_without_an_ended_episode():
    row = row_of({"env_runners": {}}, iteration=1, env_steps=50, wall_s=1.0, steps_per_s=50.0)
    assert math.isnan(row["episode_return_mean"])
    assert "no episode ended" in progress_line(row, target=100, left_s=math.inf)


def test_what_the_benchmark_counts_has_its_own_columns():
    sampled = {
        "episode_return_mean": 1.0,
        "num_episodes": 3,
        "win_rate": np.float64(0.5),
        "sample": 0.1,
        "env_step_timer": 0.2,
        "weights_seq_no": 4.0,
        "agent_steps": {"a": 5},
    }
    evaluated = {"env_runners": {"episode_return_mean": 2.0, "win_rate": 0.75}}
    row = row_of(
        {"env_runners": sampled, "evaluation": evaluated},
        iteration=1,
        env_steps=50,
        wall_s=1.0,
        steps_per_s=50.0,
    )
    assert (row["win_rate"], row["evaluation/win_rate"]) == (0.5, 0.75)
    assert set(row) - set(COLUMNS) == {"win_rate", "evaluation/win_rate", EVALUATION}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00:00"), (61, "0:01:01"), (360_000, "100:00:00"), (math.inf, "?"), (-3, "0:00:00")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_columns_that_turn_up_later_widen_the_table(tmp_path):
    table = ProgressFile(tmp_path / "progress.csv")
    table.write({"env_steps": 1, "a": math.nan})
    table.write({"env_steps": 2, "a": 5.0, "b": 7.0})
    table.write({"env_steps": 3, "a": 6.0})
    assert table.path.read_text() == "env_steps,a,b\n1,,\n2,5.0,7.0\n3,6.0,\n"
    steps, values = read_column(table.path, "a")
    assert steps.tolist() == [2, 3] and values.tolist() == [5, 6]
    with pytest.raises(ValueError, match="has no column 'c'"):
        read_column(table.path, "c")


def test_smoothing_keeps_constants_and_averages_over_the_window():
    assert smooth(np.full(7, 3.0), 5) == pytest.approx(3.0)
    assert smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3) == pytest.approx([1.5, 3, 3, 3])


def test_seeds_meet_on_the_steps_that_all_of_them_cover():
    a = np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 2.0])
    b = np.array([5.0, 15.0]), np.array([1.0, 3.0])
    steps, values = on_common_steps([a, b])
    assert steps.tolist() == [5, 10, 15]
    assert values.tolist() == [[0.5, 1.0, 1.5], [1.0, 2.0, 3.0]]


def test_curves_leave_the_global_backend_alone(run, tmp_path):
    import matplotlib

    before = matplotlib.get_backend(auto_select=False)
    csvs = {"two seeds": [run.csv, run.csv], "one": [run.csv]}
    png = save_curves(csvs, tmp_path / "x" / "c.png", title="t", reference_lines={"random": -75})
    assert is_drawn(png)
    assert matplotlib.get_backend(auto_select=False) == before


def test_an_example_takes_rllibs_arguments(ray_is_up, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--num-envs-per-env-runner", "4", "--seed", "7"]
    args = example_parser(env_steps=200).parse_args(argv)
    config = tiny_config()
    for folder in ("happo-simple_spread-s7", "happo-simple_spread-s7-2"):
        assert run_example(config, args).folder == tmp_path / "results" / folder
    assert config.num_envs_per_env_runner == 4
    with pytest.raises(SystemExit, match="--num-samples needs --tune"):
        run_example(config, example_parser().parse_args(["--num-samples", "2"]))


def test_a_demo_of_a_batched_environment(ray_is_up, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = (
        HAPPOConfig()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=200, num_epochs=1)
    )
    args = example_parser().parse_args(["--demo", "--env-steps", "200"])
    with contextlib.suppress(SystemExit):  # 200 steps may teach nothing
        run_example(config, args, demo_episodes=4)
    shown = capsys.readouterr().out
    assert "mean team return over 4 episodes" in shown and "no video" in shown
    assert (tmp_path / "results" / "happo-climbing-s0" / "progress.csv").exists()


# ---- videos -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_shows_the_episode(run, tmp_path, suffix):
    imageio = pytest.importorskip("imageio.v2")
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    policies = load_policies(run.checkpoint)
    env = make_mpe({**MPE, "render_mode": "rgb_array"})
    path = tmp_path / f"episode{suffix}"
    team_return = record_episode(policies, env, path, seed=3)
    assert team_return == play_episode(policies.act, make_mpe(MPE), seed=3)
    with imageio.get_reader(path) as reader:
        frames = [frame for frame in reader]  # list() would ask for the length: infinite
    assert 20 <= len(frames) <= 26  # the start and 25 steps; a GIF merges equal frames
    assert frames[0].shape[:2] == (700, 700)
    assert not np.array_equal(frames[0], frames[-1])
    env.close()


class Zeros:
    """Policies of nobody: they act by zeros."""

    def reset(self):
        pass

    def act(self, observations):
        return dict.fromkeys(observations, 0)


def test_all_kinds_of_environments_are_filmed(tmp_path):
    imageio = pytest.importorskip("imageio.v2")
    from mpe2 import simple_spread_v3

    from rllib_hetero.envs import make_cooperative_mpe

    plain = {"max_cycles": 4, "render_mode": "rgb_array"}
    batched = {"scenario": "treasure_collection", "render_mode": "rgb_array"}
    for env in (
        simple_spread_v3.parallel_env(continuous_actions=False, **plain),
        make_cooperative_mpe(batched),
    ):
        record_episode(Zeros(), env, tmp_path / "film.gif", seed=1, max_steps=4)
        with imageio.get_reader(tmp_path / "film.gif") as reader:
            frames = [frame for frame in reader]  # equal ones are merged
            assert frames and np.ptp(frames[0]) > 0
        env.close()
    with pytest.raises(TeamError, match="2 environments; make one of 1"):
        record_episode(
            Zeros(), make_cooperative_mpe({**batched, "num_envs": 2}), tmp_path / "x.gif"
        )


def test_the_users_env_config_is_the_users(tmp_path):
    """A function that calls its class by keywords; threads are as they were."""
    before = torch.get_num_threads()
    given = []

    def make(env_config):
        given.append(dict(env_config))
        return Fixed(**env_config)

    torch.set_num_threads(2)
    try:
        env = make_one(make, {"length": 3})
        threads = []
        play(
            lambda seen: dict.fromkeys(seen, 0),
            as_one_row(env),
            seed=0,
            max_steps=5,
            on_step=lambda: threads.append(torch.get_num_threads()),
        )
        assert given == [{"length": 3}] and set(threads) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Fixed(MatrixTeam):
    def __init__(self, *, length):
        super().__init__({"payoff": [[1.0, 0.0], [0.0, 2.0]], "length": length})


def test_an_environment_that_does_not_render_is_refused(run, tmp_path):
    with pytest.raises(TeamError, match="render_mode"):
        record_episode(load_policies(run.checkpoint), make_mpe(MPE), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
