"""From run folders to pictures, a table and marl-eval's JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rllib_hetero.errors import TeamError
from rllib_hetero.files import write_whole
from rllib_hetero.reporting.comparison import escaped, short, table
from rllib_hetero.reporting.curve import UNITS
from rllib_hetero.reporting.differences import differing, names_of_groups, warnings_of
from rllib_hetero.reporting.intervals import interquartile_means
from rllib_hetero.reporting.marl_eval import marl_eval_data
from rllib_hetero.reporting.names import as_file_name, short_name
from rllib_hetero.reporting.plotting import Diagram, Line, save_diagram, shortened
from rllib_hetero.reporting.run_folders import Groups, Run, column_of, grouped, read_run

METRIC = "env_runners/episode_return_mean"
LAST = 0.1
"""The share of a run's steps that its final number is the mean over."""

_MOST_POINTS = 10_000  # of a curve in a picture, which has fewer dots
_HEADER = ["task", "algorithm", "seeds", "steps", "IQM", "95 % interval", "mean", "worst", "best"]


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        runs: How many runs went in.
        table: `results.md`.
        curves: A picture for each task.
        marl_eval: `marl_eval.json`.
    """

    runs: int
    table: Path
    curves: list[Path]
    marl_eval: Path


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    labels: Mapping[str, Sequence[Path]] | None = None,
    metric: str = METRIC,
    points: int = 50,
    resamples: int = 2000,
) -> Report:
    """Writes learning curves, a table of final returns, and marl-eval's JSON.

    Args:
        folders: Of runs, as `run_training` wrote them. Those of one algorithm that differ in more
            than their seeds are shown apart, named by the difference.
        out: The folder to write into; made if needed.
        labels: A name to the folders of further runs, which are shown as seeds of one setting.
        metric: A column of `progress.csv`; RLlib's and Tune's name for it works, too.
        points: Of a curve in marl-eval's file.
        resamples: Of the bootstrap.

    Raises:
        MissingExtraError: If rliable is not installed.
        TeamError: If a folder holds no run, or a run is given twice.
    """
    if (out / "run.json").exists():
        raise TeamError(f"{out} is the folder of a run: give the report one of its own.")
    named: list[tuple[str | None, Path]] = [(None, folder) for folder in folders]
    named += [(label, folder) for label, some in (labels or {}).items() for folder in some]
    if not named:
        raise TeamError("There is no run to report: give the folders of some.")
    runs = [read_run(folder.resolve(), metric, label=label) for label, folder in named]
    groups = grouped(runs, names_of_groups)
    for warning in warnings_of(groups):
        print(f"warning: {shortened(warning, 1000)}", file=sys.stderr)
    rows, pictures, taken = [], [], set[str]()
    for (env, task), by_name in groups.items():
        lines: list[Line] = []
        for name, some in by_name.items():
            lines.append(_line(name, some, resamples, color=len(lines)))
            rows.append(_row(task, name, some, resamples))
        png = out / f"{_file_name(env, task, taken)}.png"
        intervals = any(line.band for line in lines)
        heading = f"interquartile mean{', 95 % interval' if intervals else ''}"
        column = column_of(metric)
        diagram = Diagram(task, lines, labels=("environment steps", UNITS.get(column, column)))
        pictures.append(save_diagram(diagram, png, legend=heading))
    text = [f"`{metric}`, mean over the last {LAST:.0%} of each run's steps.", ""]
    text += table(_HEADER, rows) + _settings(groups)
    write_whole(out / "results.md", "\n".join(text) + "\n")
    data = marl_eval_data(
        groups, column_of(metric), grid=lambda some: common_steps(some, points), final=final_value
    )
    write_whole(out / "marl_eval.json", json.dumps(data, indent=1) + "\n")
    return Report(len(runs), out / "results.md", pictures, out / "marl_eval.json")


def common_steps(runs: Sequence[Run], points: int) -> np.ndarray:
    """Steps that all runs cover, at most `points` of those at which one of them was measured.

    Raises:
        TeamError: If there are none.
    """
    low = max(run.steps[0] for run in runs)
    high = min(run.steps[-1] for run in runs)
    if low > high:
        late, early = max(runs, key=lambda r: r.steps[0]), min(runs, key=lambda r: r.steps[-1])
        raise TeamError(
            f"{late.folder} begins at {low:,.0f} steps, after {early.folder} has ended at "
            f"{high:,.0f}: they cannot be compared. Leave one out."
        )
    steps = np.unique(np.concatenate([run.steps for run in runs]))
    steps = steps[(steps >= low) & (steps <= high)]
    # Between them values are interpolated, which would lower peaks: so only steps that are there.
    kept = np.linspace(0, len(steps) - 1, min(points, len(steps))).round().astype(int)
    return steps[kept]


def final_value(run: Run) -> float:
    """The mean of the metric over the last tenth of the run's steps."""
    late = run.steps > (1 - LAST) * run.steps[-1]
    return float(run.values[late].mean())


def _line(name: str, runs: Sequence[Run], resamples: int, *, color: int) -> Line:
    steps = common_steps(runs, _MOST_POINTS)
    scores = np.stack([np.interp(steps, run.steps, run.values) for run in runs])
    estimate = interquartile_means(scores, resamples=resamples)
    if len(runs) == 1:
        return Line(f"{name} (1 seed, no interval)", steps, estimate.iqm, color=color)
    label = f"{name} ({len(runs)} seeds)"
    return Line(label, steps, estimate.iqm, (estimate.low, estimate.high), color=color)


def _row(task: str, name: str, runs: Sequence[Run], resamples: int) -> list[str]:
    finals = np.array([final_value(run) for run in runs])
    (iqm,), (low,), (high,) = interquartile_means(finals[:, None], resamples=resamples)
    interval = "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
    steps = short(min(run.steps[-1] for run in runs))
    return [
        escaped(shortened(task)), escaped(shortened(name)), str(len(runs)), steps,
        f"{iqm:.2f}", interval,
        f"{finals.mean():.2f}", f"{finals.min():.2f}", f"{finals.max():.2f}",
    ]  # fmt: skip


def _settings(groups: Groups) -> list[str]:
    """A table of what tells the settings of each task apart; empty where nothing does."""
    rows = []
    for (_, task), by_name in groups.items():
        by_algo: dict[str, list[str]] = {}
        for name, runs in by_name.items():
            by_algo.setdefault(runs[0].algo, []).append(name)
        for names in by_algo.values():
            unlike = differing([by_name[name][0] for name in names])
            for i, name in enumerate(names):
                texts = [shortened(f"{what}={of_each[i]}") for what, of_each in unlike.items()]
                if texts:
                    rows.append(
                        [escaped(shortened(x)) for x in (task, name)] + [escaped(", ".join(texts))]
                    )
    return ["", *table(["task", "algorithm", "what sets it apart"], rows)] if rows else []


def _file_name(env: str, task: str, taken: set[str]) -> str:
    """A name that no other task of this report has."""
    name = as_file_name(f"{short_name(env)}-{task}")
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free
