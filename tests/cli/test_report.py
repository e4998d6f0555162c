"""Reports of runs whose numbers are made up, so that the results can be worked out by hand."""

import json
import sys

import numpy as np
import pytest

from rllib_hetero import cli
from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.marl_eval import marl_eval_data
from rllib_hetero.reporting.report import common_steps, final_value
from rllib_hetero.reporting.run_folders import column_of, differing, grouped, read_run

METRIC = "env_runners/episode_return_mean"


@pytest.fixture
def make_run(tmp_path):
    def make(algo, seed, values, *, game="climbing", lr=1e-3, **env_config):
        folder = tmp_path / f"{algo}-{game}-{seed}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        record = {
            "algorithm": algo,
            "env": "matrix_game",
            "env_config": {"game": game, **env_config},
            "config": {"seed": seed, "update_order_seed": seed, "lr": lr},
        }
        (folder / "run.json").write_text(json.dumps(record))
        lines = [f"{i + 1},{100 * (i + 1)},{value}" for i, value in enumerate(values)]
        text = "\n".join(["iteration,env_steps,episode_return_mean", *lines]) + "\n"
        (folder / "progress.csv").write_text(text)
        return folder

    return make


def test_names_of_metrics():
    assert column_of(METRIC) == column_of("episode_return_mean") == "episode_return_mean"
    assert column_of("evaluation/env_runners/x") == column_of("evaluation/x") == "evaluation/x"


def test_runs_are_grouped_by_task_and_algorithm(make_run):
    folders = [
        make_run("HAPPO", 10, [1]), make_run("HAPPO", 2, [1]), make_run("MAPPO", 2, [1]),
        make_run("HAPPO", 2, [1], length=5),
    ]  # fmt: skip
    groups = grouped([read_run(folder, METRIC) for folder in folders])
    assert {key: {a: [r.seed for r in g] for a, g in by.items()} for key, by in groups.items()} == {
        ("matrix_game", "climbing"): {"HAPPO": ["2", "10"], "MAPPO": ["2"]},
        ("matrix_game", "climbing (length=5)"): {"HAPPO": ["2"]},
    }


def test_what_must_not_be_counted_together(make_run, tmp_path):
    runs = [read_run(make_run("HAPPO", 1, [1], lr=lr), METRIC) for lr in (1e-3, 2e-3)]
    assert differing(runs) == ["lr"]
    with pytest.raises(TeamError, match="both HAPPO on climbing with seed 1"):
        grouped(runs)
    with pytest.raises(TeamError, match=r"run.json is missing"):
        read_run(tmp_path, METRIC)
    with pytest.raises(TeamError, match="no iteration has a value"):
        read_run(make_run("HAPPO", 3, ["", ""]), METRIC)
    with pytest.raises(ValueError, match="no column 'win_rate'"):
        read_run(make_run("HAPPO", 3, [1]), "env_runners/win_rate")


def test_final_values_and_common_steps(make_run):
    run = read_run(make_run("HAPPO", 1, range(20)), METRIC)  # 100 to 2000 steps
    assert final_value(run) == pytest.approx((18 + 19) / 2)  # after 1800
    short = read_run(make_run("HAPPO", 2, range(5)), METRIC)
    assert common_steps([run, short], 5).tolist() == [100, 200, 300, 400, 500]


def test_the_json_of_marl_eval(make_run):
    runs = [read_run(make_run("HAPPO", s, [s, s + 1]), METRIC) for s in (1, 5)]
    data = marl_eval_data(
        grouped(runs), "return", grid=lambda r: np.array([100.0, 150.0]), final=final_value
    )
    assert data == {
        "matrix_game": {
            "climbing": {
                "HAPPO": {
                    f"seed_{s}": {
                        "step_0": {"step_count": 100, "return": [s]},
                        "step_1": {"step_count": 150, "return": [s + 0.5]},
                        "absolute_metrics": {"return": [s + 1.0]},
                    }
                    for s in (1, 5)
                }
            }
        }
    }


def test_interquartile_means_by_hand():
    pytest.importorskip("rliable")
    from rllib_hetero.reporting.intervals import interquartile_means

    scores = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [9.0, 5.0]])
    estimate = interquartile_means(scores, resamples=200)
    assert estimate.iqm.tolist() == [1.5, 5.0]  # without the lowest and the highest quarter
    assert estimate.low[1] == estimate.high[1] == 5.0
    assert 0.0 <= estimate.low[0] < 1.5 < estimate.high[0] <= 9.0
    alone = interquartile_means(scores[:1], resamples=200)
    assert alone.iqm.tolist() == [0.0, 5.0] and np.isnan(alone.low).all()


def test_a_report_from_folders_to_files(make_run, tmp_path, capsys):
    pytest.importorskip("rliable")
    folders = [make_run("HAPPO", s, [0, 0, s, s]) for s in (1, 2, 3, 8)]
    folders.append(make_run("MAPPO", 1, [0, 0, 0, 4]))
    out = tmp_path / "report"
    arguments = ["report", *map(str, folders), "--out", str(out), "--resamples", "100"]
    assert cli.main([*arguments, "--points", "4"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["runs"] == 5
    rows = (out / "results.md").read_text().splitlines()
    assert rows[-2].startswith("| climbing | HAPPO | 4 | 0k | 2.50 |")  # the middle two: 2, 3
    assert rows[-2].endswith("| 3.50 | 1.00 | 8.00 |")
    assert rows[-1] == "| climbing | MAPPO | 1 | 0k | 4.00 | - | 4.00 | 4.00 | 4.00 |"
    assert (out / "matrix-game-climbing.png").stat().st_size > 5000
    assert (
        "seed_8"
        in json.loads((out / "marl_eval.json").read_text())["matrix_game"]["climbing"]["HAPPO"]
    )


def test_without_rliable_the_message_names_the_extra(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rliable", None)
    folder = make_run("HAPPO", 1, [1, 2])
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "report")]) == 2
    assert "pip install 'rllib_hetero[report]'" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
