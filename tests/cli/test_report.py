"""Reports of runs whose numbers are made up, so that the results can be worked out by hand."""

import json
import os
import re
import sys

import numpy as np
import pytest

from rllib_hetero import cli
from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.differences import differing, names_of_groups, warnings_of
from rllib_hetero.reporting.marl_eval import marl_eval_data
from rllib_hetero.reporting.names import env_id
from rllib_hetero.reporting.plotting import Diagram, Line, draw, explain, new_figure
from rllib_hetero.reporting.report import common_steps, final_value, write_report
from rllib_hetero.reporting.run_folders import column_of, read_run
from rllib_hetero.reporting.run_folders import grouped as grouped_by

METRIC = "env_runners/episode_return_mean"


@pytest.fixture
def make_run(tmp_path):
    def make(algo, seed, values, *, game="climbing", env="matrix_game", config=None, **env_config):
        folder = tmp_path / f"{algo}-{seed}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        record = {
            "algorithm": algo,
            "env": env,
            "target_env_steps": 1000,
            "env_config": {**({"game": game} if game else {}), **env_config},
            "config": {"seed": seed, "update_order_seed": seed, **(config or {})},
        }
        (folder / "run.json").write_text(json.dumps(record))
        lines = [f"{i + 1},{100 * (i + 1)},{value}" for i, value in enumerate(values)]
        text = "\n".join(["iteration,env_steps,episode_return_mean", *lines]) + "\n"
        (folder / "progress.csv").write_text(text)
        return folder

    return make


def grouped(runs):
    return grouped_by(runs, names_of_groups)


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
    runs = [read_run(make_run("HAPPO", 1, [1]), METRIC) for _ in range(2)]
    with pytest.raises(TeamError, match="both HAPPO on climbing with seed 1"):
        grouped(runs)
    two = make_run("HAPPO", 4, [1, 2])
    table = (two / "progress.csv").read_text()
    (two / "progress.csv").write_text(table + table.splitlines()[1] + "\n")
    with pytest.raises(TeamError, match=r"steps in progress.csv go back"):
        read_run(two, METRIC)
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
    # Steps of the runs and none between them, where a peak would be lower.
    assert common_steps([run], 3).tolist() == [100, 1100, 2000]
    run.steps[3] = 450
    assert common_steps([run, short], 9).tolist() == [100, 200, 300, 400, 450, 500]


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
    assert (out / "matrix_game-climbing.png").stat().st_size > 5000
    assert (
        "seed_8"
        in json.loads((out / "marl_eval.json").read_text())["matrix_game"]["climbing"]["HAPPO"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": None}, "'algorithm' must be a text"),
        ({"algorithm": "x" * 1000}, "'algorithm' must be a text of at most 100"),
        ({"env": ["x"]}, "'env' must be a text"),
        ({"env_config": []}, "'env_config' must be an object"),
        ({"config": "x"}, "'config' must be an object"),
        ({"config": {"seed": "y" * 1000}}, "with a whole number or null as `seed`"),
        ({"target_env_steps": True}, "'target_env_steps' must be"),
    ],
    ids=str,
)  # fmt: skip
def test_records_of_strangers(make_run, change, message):
    folder = make_run("HAPPO", 1, [1, 2])
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(known | change))
    with pytest.raises(TeamError, match=re.escape(message)):
        read_run(folder, METRIC)


def test_files_of_strangers(make_run, tmp_path):
    folder = make_run("HAPPO", 1, [1, 2])
    head = "iteration,env_steps,episode_return_mean\n"
    for text, message in (
        ("x" * 200_000 + "\n", "no table|no column"),
        (f"{head}1,100,x\n", "could not convert"),
        (f'{head}1,100,"{"9" * 200_000}"\n', "no table"),
        (f"{head}1,nan,1\n2,100,inf\n3\n", "no iteration has a value"),
    ):
        (folder / "progress.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_run(folder, METRIC)
    for name in ("progress.csv", "run.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)  # nobody writes
        with pytest.raises(TeamError, match="no plain file"):
            read_run(folder, METRIC)


def test_a_report_stays_in_its_folder(make_run, tmp_path):
    pytest.importorskip("rliable")
    escape = "\x1b[2J$x_{" + "z" * 500
    folder = make_run("HAPPO", 1, [1, 2], game=f"../../{escape}", env="../x")
    with pytest.raises(TeamError, match="is the folder of a run"):
        write_report([folder], folder, resamples=9)
    out, secret = tmp_path / "out", tmp_path / "secret"
    out.mkdir()
    secret.write_text("mine")
    (out / "results.md").symlink_to(secret)
    before = {path for path in tmp_path.rglob("*")}
    report = write_report([folder], out, resamples=9)
    assert {path for path in tmp_path.rglob("*")} - before == {*report.curves, report.marl_eval}
    assert secret.read_text() == "mine" and report.curves[0].parent == out
    assert "\x1b" not in report.table.read_text()


def with_lr(lr, **more):
    return {"lr": lr, "model_config": {"hidden_sizes": [64], **more}}


def test_settings_that_differ_are_shown_apart(make_run):
    folders = [
        make_run("HAPPO", seed, [1, 2], config=config)
        for config in (with_lr(1e-4), with_lr(1e-3), with_lr(1e-3, recurrent="gru"))
        for seed in (1, 2)
    ]
    folders.append(make_run("MAPPO", 1, [1, 2], config=with_lr(1e-4)))
    runs = [read_run(folder, METRIC) for folder in folders]
    assert differing(runs) == {
        "lr": ["0.0001"] * 2 + ["0.001"] * 4 + ["0.0001"],
        "model_config.recurrent": ["-"] * 4 + ["gru"] * 2 + ["-"],
    }
    groups = grouped(runs)
    assert {name: len(some) for name, some in groups["matrix_game", "climbing"].items()} == {
        "HAPPO (lr=0.0001)": 2,
        "HAPPO (lr=0.001)": 2,
        "HAPPO (lr=0.001, model_config.recurrent=gru)": 2,
        "MAPPO": 1,
    }
    (warning,) = warnings_of(groups)
    assert warning.startswith("on climbing the runs are of different networks: HAPPO (lr=0.0001):")


def test_names_too_long_are_numbers(make_run):
    folders = [make_run("HAPPO", 1, [1], config={"x": "y" * 70, "lr": i}) for i in (1, 2)]
    runs = [read_run(folder, METRIC) for folder in folders]
    assert names_of_groups("HAPPO", [[run] for run in runs]) == ["HAPPO (lr=1)", "HAPPO (lr=2)"]
    runs[0].settings["x"] = "z" * 70
    assert names_of_groups("HAPPO", [[r] for r in runs]) == ["HAPPO, setting 1", "HAPPO, setting 2"]


def test_what_is_shown_together_is_told_where_it_differs(make_run, tmp_path):
    def warnings(config, values, **record):
        folder = make_run("MAPPO", 1, values, config=config)
        known = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**known, **record}))
        usual = make_run("HAPPO", 1, [1, 2, 3], config=batch)
        return warnings_of(grouped([read_run(f, METRIC) for f in (usual, folder)]))

    batch = {"train_batch_size_per_learner": 100, "num_learners": 0}
    assert warnings(batch, [1, 2, 3]) == []
    assert warnings({**batch, "num_learners": 1}, [1, 2, 3]) == []
    assert warnings({**batch, "num_learners": 2}, [1, 2, 3]) == [
        "on climbing the runs are of different batch: HAPPO: 100; MAPPO: 200"
    ]
    assert warnings(batch, [1, 2]) == [
        "on climbing the runs are of different length: HAPPO: 300 steps; MAPPO: 200 steps"
    ]
    (told,) = warnings(batch, [1, 2, 3], versions={"ray": "2.61"})
    assert "of different versions" in told


def test_labels_of_the_users_join_and_name(make_run, tmp_path, capsys):
    pytest.importorskip("rliable")
    small = [make_run("HAPPO", s, [0, 5, 5], config=with_lr(1e-4)) for s in (1, 2)]
    large = [make_run("HAPPO", s, [0, 7, 7], config=with_lr(s * 1e-3)) for s in (1, 2)]
    out = tmp_path / "out"
    arguments = ["--label", "_$a b$", *map(str, small), "--label", "large|<b>", *map(str, large)]
    assert cli.main(["report", *arguments, "--out", str(out), "--resamples", "9"]) == 0
    printed = capsys.readouterr()
    assert "runs of 'large|<b>' on climbing differ in lr" in printed.err
    rows = (out / "results.md").read_text().splitlines()
    assert rows[4].startswith(r"| climbing | _\$a b\$ | 2 |")
    assert rows[5].startswith(r"| climbing | large\|\<b\> | 2 |")
    assert rows[-1] == r"| climbing | large\|\<b\> | lr=0.001 |"
    assert cli.main(["report", "--out", str(out)]) == 2
    assert "no run to report" in capsys.readouterr().err


def test_tasks_of_like_names_have_pictures_of_their_own(make_run, tmp_path):
    pytest.importorskip("rliable")
    folders = [make_run("HAPPO", 1, [1, 2], x=x) for x in ("a b", "a-b")]
    folders.append(make_run("HAPPO", 1, [1], game=None, env=env_id(TeamError)))
    report = write_report(folders, tmp_path / "out", resamples=9)
    assert [path.name for path in report.curves] == [
        "matrix_game-climbing-x-a-b.png", "matrix_game-climbing-x-a-b-2.png",
        "teamerror-teamerror.png",
    ]  # fmt: skip


def test_one_plotter_takes_texts_as_they_are():
    x = np.array([1.0, 2.0])
    lines = [Line("_$a", x, x, (x, x)), Line("b$_", x[:1], x[:1], color=1)]
    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    explain(axes, draw(Diagram("$t_", lines, {"c": 0.5}, ("x", "$y")), axes))
    figure.canvas.draw()  # an unbalanced formula would raise
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [" _$a", "b$_", "c"]
    assert [line.get_marker() for line in axes.lines[:2]] == ["o", "o"]


def test_without_rliable_the_message_names_the_extra(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rliable", None)
    folder = make_run("HAPPO", 1, [1, 2])
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "report")]) == 2
    assert (
        "belongs to rllib_hetero[report]; install it with: pip install -e '"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "report").exists()
