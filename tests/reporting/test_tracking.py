"""What trackers are told of a run, and what is not told."""

import json
import math
import random
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import recorded
import torch

from rllib_hetero import HAPPOConfig, MissingExtraError, TeamError, cli
from rllib_hetero.envs import register_environments
from rllib_hetero.reporting import run_training
from rllib_hetero.reporting.progress import ProgressFile
from rllib_hetero.reporting.resume import resume_training
from rllib_hetero.reporting.tracking import TRACKERS, Tracking, following
from rllib_hetero.reporting.tracking.mlflow_runs import allowed_name, flattened

KEY = "b8c7d6e5f4039281706f5e4d3c2b1a0908070605"  # made up
NAMES = list(TRACKERS)


def config_on(env, **env_config):
    return (
        HAPPOConfig()
        .environment(env, env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        .rl_module(model_config={"hidden_sizes": [8]})
        .training(train_batch_size_per_learner=200, num_epochs=1)
        .debugging(seed=1)
    )


def game_config():
    return config_on("matrix_game", game="climbing")


def spread_config():
    return config_on("mpe", scenario="simple_spread")


@pytest.fixture(scope="module")
def ray_is_up(ray_local):
    register_environments()  # an earlier Ray of this process took the names with it


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Nothing goes to a server, nothing is read from or written to the home folder."""
    for name in ("WANDB_PROJECT", "WANDB_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", KEY)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def finite(rows):
    return [{k: v for k, v in row.items() if math.isfinite(v)} for row in rows]


# ---- the libraries, for real --------------------------------------------------------------------


def test_tensorboard_gets_every_row_and_the_record(ray_is_up, tmp_path):
    run = run_training(game_config(), env_steps=600, out=tmp_path / "a", track=["tensorboard"])
    written = recorded.scalars(run.folder / "tensorboard")
    rows = finite(ProgressFile.rows_of(run.csv))
    assert len(rows) == 3
    for name in rows[0]:
        expected = [(row["env_steps"], pytest.approx(row[name], rel=1e-6)) for row in rows]
        assert written[name] == expected, name
    texts = {
        value.tag: value.tensor.string_val[0].decode()
        for event in recorded.event_files(run.folder / "tensorboard")
        for value in event.summary.value
        if value.WhichOneof("value") == "tensor"
    }
    assert texts["status/text_summary"] == "done"
    known = json.loads(texts["run/text_summary"])
    assert known["config"]["update_order_seed"] == 1
    assert {"rllib_hetero", "ray", "torch"} <= set(known["versions"])
    assert "git_commit" in known


def test_tensorboard_itself_reads_it_and_drops_what_a_resume_repeats(ray_is_up, tmp_path):
    run = run_training(
        game_config(), env_steps=600, out=tmp_path / "a", track=["tensorboard"], checkpoint_every=2
    )
    # As if the process had been killed after one more iteration, which was logged.
    table = run.csv.read_text()
    *_, last = table.splitlines()
    ahead = last.split(",")
    ahead[:2] = "4", "800"
    run.csv.write_text(f"{table}{','.join(ahead)}\n")
    from tensorboardX import SummaryWriter

    time.sleep(1.1)  # the names of event files hold whole seconds
    with SummaryWriter(str(run.folder / "tensorboard")) as writer:
        writer.add_scalar("episode_return_mean", -99.0, 800)
    time.sleep(1.1)
    resume_training(run.folder, env_steps=800)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["tracking"] == {"trackers": {"tensorboard": "tensorboard"}, "video_every": None}
    logged = recorded.scalars(run.folder / "tensorboard")["episode_return_mean"]
    assert [step for step, _ in logged] == [200, 400, 600, 800, 800]
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(run.folder / "tensorboard"))
    seen.Reload()
    kept = {event.step: event.value for event in seen.Scalars("episode_return_mean")}
    assert list(kept) == [200, 400, 600, 800] and kept[800] != -99.0


def test_wandb_offline_gets_every_row_the_config_and_no_key(ray_is_up, tmp_path, offline):
    pytest.importorskip("wandb")
    run = run_training(game_config(), env_steps=600, out=tmp_path / "a", track=["wandb"])
    rows = finite(ProgressFile.rows_of(run.csv))
    logged = recorded.wandb_history(run.folder)
    assert [{k: v for k, v in x.items() if k in rows[0]} for x in logged] == rows
    config, tags = recorded.wandb_config(run.folder)
    record = json.loads((run.folder / "run.json").read_text())
    assert config["config"] == record["config"]
    assert config["versions"] == record["versions"]
    assert config["git_commit"] == record["git_commit"]
    assert sorted(tags) == ["HAPPO", "matrix_game"]
    assert record["tracking"]["trackers"]["wandb"] in str(next(run.folder.glob("wandb/offline*")))
    names = [path.name for path in (run.folder / "wandb").rglob("*")]
    assert "diff.patch" not in names and "output.log" not in names


def test_mlflow_gets_every_row_the_config_and_the_state(ray_is_up, tmp_path, offline):
    mlflow = pytest.importorskip("mlflow")
    run = run_training(
        game_config(), env_steps=400, out=tmp_path / "a", track=["mlflow"], checkpoint_every=2
    )
    resume_training(run.folder, env_steps=600)
    record = json.loads((run.folder / "run.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{run.folder}/mlflow.db")
    name = record["tracking"]["trackers"]["mlflow"]
    kept = client.get_run(name)
    assert kept.info.status == "FINISHED" and kept.info.run_name == "a"
    assert kept.data.params["config.update_order_seed"] == "1"
    assert kept.data.params["env_config.game"] == "climbing"
    assert kept.data.tags["mlflow.source.git.commit"] == record["git_commit"]
    for column in ("episode_return_mean", "learner/player_0/entropy"):
        logged = [(m.step, m.value) for m in client.get_metric_history(name, column)]
        assert logged == [(r["env_steps"], r[column]) for r in ProgressFile.rows_of(run.csv)]
    assert [file.path for file in client.list_artifacts(name)] == ["run.json"]
    assert mlflow.active_run() is None


def test_a_key_in_the_environment_is_nowhere(ray_is_up, tmp_path, offline, monkeypatch, capfd):
    track = ["tensorboard"]
    for name in ("wandb", "mlflow"):
        try:
            __import__(name)
        except ImportError:
            continue
        track.append(name)
    monkeypatch.setenv("MY_SERVICE_TOKEN", KEY[::-1])
    run = run_training(game_config(), env_steps=200, out=tmp_path / "a", track=track)
    printed = "".join(capfd.readouterr())
    looked_at = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run.folder / "run.json" in looked_at and len(looked_at) > 10
    for secret in (KEY, KEY[::-1]):
        assert secret not in printed
        for path in looked_at:
            assert secret.encode() not in path.read_bytes(), path


# ---- films --------------------------------------------------------------------------------------


def test_films_go_to_the_folder_and_the_tracker_and_change_nothing(ray_is_up, tmp_path):
    pytest.importorskip("mpe2")
    imageio = pytest.importorskip("imageio.v2")
    filmed = run_training(
        spread_config(), env_steps=800, out=tmp_path / "a", track=["tensorboard"], video_every=2
    )
    plain = run_training(spread_config(), env_steps=800, out=tmp_path / "b")
    names = ["000000000400.gif", "000000000800.gif"]
    assert [path.name for path in sorted((filmed.folder / "videos").iterdir())] == names
    pictures = [
        (event.step, value)
        for event in recorded.event_files(filmed.folder / "tensorboard")
        for value in event.summary.value
        if value.WhichOneof("value") == "image"
    ]
    assert [step for step, _ in pictures] == [400, 800]
    shown = pictures[0][1].image
    assert shown.encoded_image_string == (filmed.folder / "videos" / names[0]).read_bytes()
    frames = imageio.mimread(shown.encoded_image_string)
    assert len(frames) > 5  # of 26: a GIF merges equal ones
    assert frames[0].shape[:2] == (shown.height, shown.width)
    timed = {"wall_s", "steps_per_s"}
    rows = [
        [{k: v for k, v in row.items() if k not in timed} for row in finite(table)]
        for table in (ProgressFile.rows_of(filmed.csv), ProgressFile.rows_of(plain.csv))
    ]
    assert rows[0] == rows[1]


def test_what_cannot_be_filmed_is_refused_before_ray_starts(tmp_path):
    pytest.importorskip("imageio")
    register_environments()
    with pytest.raises(TeamError, match=r"'matrix_game' cannot be filmed.*--video-every"):
        run_training(game_config(), env_steps=200, out=tmp_path / "a", video_every=1)
    with pytest.raises(TeamError, match="video_every=0"):
        run_training(game_config(), env_steps=200, out=tmp_path / "a", video_every=0)
    assert not list(tmp_path.iterdir())


def test_a_missing_imageio_is_told_early(tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rllib_hetero\[video\]"):
        run_training(game_config(), env_steps=200, out=tmp_path / "a", video_every=1)


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_library_is_told_before_ray_starts(name, tmp_path, monkeypatch):
    for library in ("tensorboardX", "wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"rllib_hetero\[{name}\]; install it"):
        run_training(game_config(), env_steps=200, out=tmp_path / "a", track=[name])
    assert not list(tmp_path.iterdir())


def test_unknown_trackers():
    with pytest.raises(TeamError, match="did you mean 'tensorboard'"):
        Tracking(None, ["tensorbord"])
    with pytest.raises(TeamError, match=r"must be a list of names: track=\['wandb'\]"):
        Tracking(None, "wandb")


def test_the_command_line_refuses_with_exit_code_2(tmp_path, monkeypatch, capsys):
    arguments = ["train", "--algo", "HAPPO", "--env", "matrix_game", "--out", str(tmp_path / "a")]
    arguments += ["--env-config", '{"game": "climbing"}']
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert cli.main([*arguments, "--track", "wandb"]) == 2
    assert "rllib_hetero[wandb]" in capsys.readouterr().err
    pytest.importorskip("imageio")
    assert cli.main([*arguments, "--video-every", "5"]) == 2
    assert "cannot be filmed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--track", "clipboard"])
    assert not list(tmp_path.iterdir())


# ---- a tracker that fails -----------------------------------------------------------------------


class Listener:
    """Keeps what it is told; raises from its second row on if told so."""

    video_suffix = None

    def __init__(self, *, fails=False):
        self.fails, self.told, self.rows = fails, [], []

    def start(self, folder, record, earlier):
        self.told.append(("start", earlier))
        np.random.random(), random.random(), torch.rand(1)
        return "name"

    def log(self, row):
        np.random.random(), random.random(), torch.rand(1)
        if self.fails and self.rows:
            raise ConnectionError("no answer from https://me:hunter2@tracking.example")
        self.rows.append(row)

    def log_video(self, path, row):
        raise AssertionError

    def end(self, status):
        self.told.append(("end", status))


@pytest.fixture
def listeners(monkeypatch):
    pair = {"good": Listener(), "bad": Listener(fails=True)}
    monkeypatch.setattr(following, "TRACKERS", {name: (lambda x=x: x) for name, x in pair.items()})
    return pair


def test_a_tracker_that_fails_does_not_end_the_training(listeners, tmp_path, caplog):
    tracking = Tracking(None, ["bad", "good"])
    record = {}
    with tracking.following(tmp_path, record, SimpleNamespace(received=None)):
        for step in (1.0, 2.0, 3.0):
            tracking.log({"iteration": step, "env_steps": step, "x": math.nan}, None)
    assert listeners["good"].rows == [{"iteration": s, "env_steps": s} for s in (1, 2, 3)]
    assert listeners["good"].told == [("start", None), ("end", "done")]
    assert listeners["bad"].told == [("start", None)] and len(listeners["bad"].rows) == 1
    assert caplog.text.count("'bad' raised ConnectionError") == 1
    assert "hunter2" not in caplog.text and "tracking.example" in caplog.text
    assert record == {
        "tracking": {"trackers": {"bad": "name", "good": "name"}, "video_every": None}
    }


def test_how_a_run_ended_is_told(listeners, tmp_path):
    stop = SimpleNamespace(received=15)
    with Tracking(None, ["good"]).following(tmp_path, {}, stop):
        pass
    with pytest.raises(KeyError), Tracking(None, ["good"]).following(tmp_path, {}, stop):
        raise KeyError
    ends = [status for what, status in listeners["good"].told if what == "end"]
    assert ends == ["stopped", "failed"]


def test_a_resumed_run_goes_on_under_its_name(listeners, tmp_path):
    record = {}
    with Tracking(None, ["good"]).following(tmp_path, record, SimpleNamespace(received=None)):
        pass
    again = Tracking.of_record(None, record)
    with again.following(tmp_path, record, SimpleNamespace(received=None)):
        pass
    starts = [earlier for what, earlier in listeners["good"].told if what == "start"]
    assert starts == [None, "name"]
    Tracking.of_record(None, {})  # a run without trackers


def test_trackers_draw_no_random_numbers_of_the_training(listeners, tmp_path):
    def drawn():
        return random.random(), np.random.random(), float(torch.rand(1))

    def after_tracking():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        tracking = Tracking(None, ["good"])
        with tracking.following(tmp_path, {}, SimpleNamespace(received=None)):
            tracking.log({"iteration": 1, "env_steps": 1}, None)
        return drawn()

    with_tracker = after_tracking()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert with_tracker == drawn()


# ---- MLflow's rules for names -------------------------------------------------------------------


def test_parameters_for_mlflow():
    record = {"a": {"b": 1, "c": []}, "d": [1, 2], "e": None, "f": "", "g h#": {"i": "x"}}
    assert list(flattened(record)) == [("a.b", "1"), ("d", "[1, 2]"), ("g h_.i", "x")]
    assert allowed_name("learner/agent#1/mean_kl") == "learner/agent_1/mean_kl"
