"""Comparisons: what is trained and kept, and what their pages tell of it."""

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from rllib_hetero.reporting import comparison as machinery
from rllib_hetero.reporting.comparison import (
    Comparison,
    Panel,
    Run,
    mean_between,
    save_panels,
    short,
    stages,
    stages_header,
    with_deviation,
)
from rllib_hetero.reporting.run import run_training

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "results").glob("*_comparison.md"))
STEPS = np.arange(100_000, 1_000_001, 100_000)


def load(name):
    path = ROOT / "tuned_examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"script_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Gives the command line of a comparison, which writes into `tmp_path`."""

    def give(name, *options):
        folders = ["--docs", str(tmp_path / "docs"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", [name, *options, *folders])
        load(name).main()

    return give


@pytest.fixture
def keep(tmp_path):
    """Writes a run's returns as if it had been trained."""
    data = tmp_path / "docs" / "data" / "bppo"
    data.mkdir(parents=True)
    commits = {}

    def write(name, values, steps=STEPS, commit="0123456789"):
        rows = [f"{step},{value:.2f}\n" for step, value in zip(steps, values, strict=True)]
        (data / f"{name}.csv").write_text("env_steps,episode_return_mean\n" + "".join(rows))
        commits[name] = commit
        (data / "commits.json").write_text(json.dumps(commits))

    return write


def test_communication_by_topology_and_interval(monkeypatch, command, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "tuned_examples"))
    data = tmp_path / "docs" / "data" / "f2a2_communication"
    data.mkdir(parents=True)
    ends = {"none": [4, 8], "full": [400, 480], "full_every_20": [40]}
    commits = {}
    for what, values in ends.items():
        for seed, value in enumerate(values, start=1):
            rows = "".join(f"{step},{value}\n" for step in STEPS // 10)
            name = f"{what}-s{seed}"
            (data / f"{name}.csv").write_text("env_steps,episode_return_mean\n" + rows)
            commits[name] = "0123456789"
    (data / "commits.json").write_text(json.dumps(commits))
    command("f2a2_communication", "--show-only")
    page = (tmp_path / "docs" / "f2a2_communication.md").read_text()
    # What is recorded is the sum over four agents.
    assert "| F2A2SAC | 1.5 ± 0.5 | - | - | 110.0 ± 10.0 | 2 |" in page
    assert "| F2A2SAC | 1.5 ± 0.5 | - | 10.0 | 110.0 ± 10.0 | 2 |" in page
    assert imread(tmp_path / "docs" / "f2a2_communication.png")[..., :3].std() > 0.01


def no_training(*_):
    raise AssertionError("This run is there already.")


def test_runs_are_trained_and_kept_once(ray_local, command, tmp_path, monkeypatch, capsys):
    options = ["--tasks", "climbing", "--methods", "mappo", "bppo", "--seeds", "1"]
    options += ["--env-steps", "10000"]
    data, out = tmp_path / "docs" / "data" / "bppo", tmp_path / "out"
    names = ["climbing-bppo-s1", "climbing-mappo-s1"]
    stopped = out / "climbing-bppo-s1.unfinished"
    stopped.mkdir(parents=True)
    (stopped / "progress.csv").touch()

    command("bppo_comparison", *options)
    assert sorted(path.name for path in out.iterdir()) == names
    kept = {path.stem: path.read_text() for path in data.glob("*.csv")}
    assert sorted(kept) == names
    for name in names:
        header, *rows = kept[name].splitlines()
        assert header == "env_steps,episode_return_mean"
        assert [row.split(",")[0] for row in rows] == ["10000"]
        record = json.loads((out / name / "run.json").read_text())
        assert json.loads((data / "commits.json").read_text())[name] == record["git_commit"]
        assert record["algorithm"].lower() in name
        assert record["config"]["seed"] == 1
        assert record["config"]["parameter_sharing"] == "none"
    page = (tmp_path / "docs" / "bppo_comparison.md").read_text()
    assert "| BPPO | 1 | 0 of 1 | " in page
    assert page in capsys.readouterr().out

    # Neither what is kept nor what is finished is trained again.
    monkeypatch.setattr(machinery._train, "remote", no_training)
    shutil.move(out, tmp_path / "elsewhere")
    command("bppo_comparison", *options)
    shutil.rmtree(data)
    shutil.move(tmp_path / "elsewhere", out)
    command("bppo_comparison", *options)
    assert {path.stem: path.read_text() for path in data.glob("*.csv")} == kept
    assert (tmp_path / "docs" / "bppo_comparison.md").read_text() == page


def test_a_run_that_was_stopped_goes_on(ray_local, command, tmp_path):
    options = ["--tasks", "climbing", "--methods", "mappo", "--seeds", "1"]
    run = Run(("climbing", "mappo"), 1, 20_000)
    out = tmp_path / "out"
    stopped = out / f"{run.name}.unfinished"
    config = load("bppo_comparison").configure(run)
    run_training(config, env_steps=10_000, out=stopped, quiet=True)
    before = (stopped / "progress.csv").read_text().splitlines()
    command("bppo_comparison", *options, "--env-steps", "20000")
    after = (out / run.name / "progress.csv").read_text().splitlines()
    assert after[: len(before)] == before
    assert [row.split(",")[0] for row in after[1:]] == ["1", "2"]
    record = json.loads((out / run.name / "run.json").read_text())
    assert [part["env_steps"] for part in record["resumed"]] == [10_000]


def test_the_commits_of_a_run_in_parts(tmp_path):
    comparison, run = Comparison(tmp_path / "data", tmp_path / "out"), Run(("a",), 1, 1000)
    folder = tmp_path / "out" / run.name
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "progress.csv").write_text("iteration,env_steps,episode_return_mean\n1,1000,2.0\n")
    parts = [{"git_commit": c} for c in ("2" * 40, "1" * 40, "3" * 40 + "-dirty")]
    (folder / "run.json").write_text(json.dumps({"git_commit": "1" * 40, "resumed": parts}))
    comparison.keep_finished([run])
    assert comparison.commits([run]) == "1111111, 2222222, 3333333-dirty"


def test_an_unfinished_run_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machinery._train, "remote", no_training)
    comparison = Comparison(tmp_path / "data", tmp_path / "out")
    run = Run(("climbing", "bppo"), 1, 1000)
    folder = tmp_path / "out" / "climbing-bppo-s1"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "progress.csv").write_text("iteration,env_steps,episode_return_mean\n1,900,2.0\n")
    comparison.train([run], no_training, parallel=1)
    assert "climbing-bppo-s1: left out" in capsys.readouterr().out
    assert not comparison.has(run)
    assert (folder / "progress.csv").exists()


def rises_at(step, low, high):
    return np.where(step <= STEPS, high, low)


def test_the_tables_of_what_is_there(command, keep, tmp_path):
    keep("climbing-mappo-s1", rises_at(200_000, -3, 5))
    keep("climbing-bppo-s1", rises_at(300_000, 0, 11))
    keep("climbing-bppo-s2", rises_at(500_000, 0, 10.6))
    keep("climbing-bppo-s10", rises_at(500_000, 0, 10.4), commit="abcdef0123-dirty")
    # The first episodes end in the tenth iteration.
    keep("halfcheetah_6x1-happo-s3", [-50.0, 700.0, 900.0], [40_000, 1_000_000, 2_000_000])
    keep("halfcheetah_6x1-bppo-s1", [], [])
    command("bppo_comparison", "--show-only")
    page = (tmp_path / "docs" / "bppo_comparison.md").read_text()
    assert "The Pareto optimum is 11." in page
    assert "| method | seeds | at the optimum | last 100k | 90 % of it from |" in page
    assert (
        "\n| MAPPO | 1 | 0 of 1 | 5.0 | - |\n| BPPO | 1, 2, 10 | 2 of 3 | 10.7 ± 0.2 | 500k |\n"
        in page
    )
    assert "| method | seeds | first iteration | 800k to 1.2M | last 200k |" in page
    assert "\n| HAPPO | 3 | -50.0 | 700.0 | 900.0 |\n| BPPO | 1 | - | - | - |\n" in page
    assert "Commits: 0123456, abcdef0-dirty." in page
    assert "Penalty" not in page


def test_there_is_nothing_to_show(command):
    with pytest.raises(SystemExit, match="nothing to show"):
        command("bppo_comparison", "--show-only")


def test_the_picture_gets_a_row_for_ablations(command, keep, tmp_path):
    for task in ("climbing", "halfcheetah_6x1"):
        keep(f"{task}-happo-s1", rises_at(300_000, 0, 5))
        keep(f"{task}-bppo-s1", rises_at(300_000, 0, 10))
    command("bppo_comparison", "--show-only")
    png = tmp_path / "docs" / "bppo_comparison.png"
    before = imread(png)
    assert before[..., :3].std() > 0.01
    keep("climbing-bppo_no_peer-s1", rises_at(300_000, 0, 7))
    command("bppo_comparison", "--show-only")
    after = imread(png)
    assert after.shape[0] == 2 * before.shape[0]
    assert after.shape[1] == before.shape[1]
    lower = after[before.shape[0] :]
    half = lower.shape[1] // 2
    assert lower[:, :half, :3].std() > 0.01
    # HalfCheetah has no ablations; the label of all steps is at the very bottom.
    assert lower[100:-100, half + 100 :, :3].std() == 0


def test_a_method_has_one_colour_and_rows_their_legend(tmp_path):
    curve = (STEPS.astype(float), np.linspace(0, 1, len(STEPS)))
    both, one = Panel("t", {"a": [curve], "b": [curve]}), Panel("t", {"b": [curve, curve]})

    def has_red(rows, labels):
        save_panels(tmp_path / "c.png", rows, labels)
        red, green, blue = np.moveaxis(imread(tmp_path / "c.png")[..., :3], -1, 0)
        return bool(((red > 0.7) & (green < 0.3) & (blue < 0.3)).any())

    assert has_red([[one]], ["x", "y", "z", "b"])
    assert not has_red([[both]], ["a", "b", "y", "z"])


def test_means_and_deviations():
    curve = np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 4.0])
    assert mean_between(curve, 10, 30) == 3
    assert math.isnan(mean_between(curve, 30, 40))
    assert with_deviation([1.0]) == "1.0"
    assert with_deviation([1.0, 3.0]) == "2.0 ± 1.0"
    assert with_deviation([1.0, math.nan]) == "-"
    assert stages([curve], 30, last=0.4) == ["1.0", "-", "3.0"]
    assert stages_header(500_000, last=0.2) == ["first iteration", "200k to 300k", "last 100k"]
    assert [short(999_000), short(1.2e6), short(2e6)] == ["999k", "1.2M", "2M"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_pages_are_those_of_the_kept_data(page, command, tmp_path):
    shutil.copytree(page.parent / "data", tmp_path / "docs" / "data")
    command(page.stem, *(["--show-only"] if page.stem.startswith(("bppo", "f2a2")) else []))
    assert (tmp_path / "docs" / page.name).read_text() == page.read_text()
