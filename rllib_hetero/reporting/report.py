"""From run folders to pictures, a table and marl-eval's JSON."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.comparison import short, table
from rllib_hetero.reporting.curve import UNITS
from rllib_hetero.reporting.intervals import Estimate, interquartile_means
from rllib_hetero.reporting.marl_eval import marl_eval_data
from rllib_hetero.reporting.run_folders import (
    Groups,
    Run,
    column_of,
    differing,
    grouped,
    read_run,
)

METRIC = "env_runners/episode_return_mean"
LAST = 0.1
"""The share of a run's steps that its final number is the mean over."""


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
    metric: str = METRIC,
    points: int = 50,
    resamples: int = 2000,
) -> Report:
    """Writes learning curves, a table of final returns, and marl-eval's JSON.

    Args:
        folders: Of runs, as `run_training` wrote them.
        out: The folder to write into; made if needed.
        metric: A column of `progress.csv`; RLlib's and Tune's name for it works, too.
        points: Of a curve.
        resamples: Of the bootstrap.

    Raises:
        MissingExtraError: If rliable is not installed.
        TeamError: If a folder holds no run, or a run is given twice.
    """
    groups = grouped([read_run(folder.resolve(), metric) for folder in folders])
    _warn_of_differences(groups)
    rows, pictures = [], []
    for (env, task), by_algo in groups.items():
        curves = {}
        for algo, runs in by_algo.items():
            steps = common_steps(runs, points)
            scores = np.stack([np.interp(steps, run.steps, run.values) for run in runs])
            curves[_label(algo, runs)] = steps, interquartile_means(scores, resamples=resamples)
            rows.append(_row(task, algo, runs, resamples))
        pictures.append(
            _save(out / f"{_file_name(env, task)}.png", task, column_of(metric), curves)
        )
    header = [
        "task",
        "algorithm",
        "seeds",
        "steps",
        "IQM",
        "95 % interval",
        "mean",
        "worst",
        "best",
    ]
    lines = [f"`{metric}`, mean over the last {LAST:.0%} of each run's steps.", ""]
    lines += table(header, rows)
    (out / "results.md").write_text("\n".join(lines) + "\n")
    data = marl_eval_data(
        groups, column_of(metric), grid=lambda runs: common_steps(runs, points), final=final_value
    )
    (out / "marl_eval.json").write_text(json.dumps(data, indent=1) + "\n")
    return Report(len(folders), out / "results.md", pictures, out / "marl_eval.json")


def common_steps(runs: Sequence[Run], points: int) -> np.ndarray:
    """Evenly spaced steps (points,) that all runs cover.

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
    return np.linspace(low, high, points)


def final_value(run: Run) -> float:
    """The mean of the metric over the last tenth of the run's steps."""
    late = run.steps > (1 - LAST) * run.steps[-1]
    return float(run.values[late].mean())


def _warn_of_differences(groups: Groups) -> None:
    for (_, task), by_algo in groups.items():
        for algo, runs in by_algo.items():
            names = differing(runs)
            if names:
                print(
                    f"warning: the runs of {algo} on {task} differ in {', '.join(names)}, and are "
                    "treated as seeds of one setting",
                    file=sys.stderr,
                )


def _row(task: str, algo: str, runs: Sequence[Run], resamples: int) -> list[str]:
    finals = np.array([final_value(run) for run in runs])
    (iqm,), (low,), (high,) = interquartile_means(finals[:, None], resamples=resamples)
    interval = "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
    steps = short(min(run.steps[-1] for run in runs))
    return [
        task, algo, str(len(runs)), steps, f"{iqm:.2f}", interval, f"{finals.mean():.2f}",
        f"{finals.min():.2f}", f"{finals.max():.2f}",
    ]  # fmt: skip


def _label(algo: str, runs: Sequence[Run]) -> str:
    return f"{algo} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"


def _file_name(env: str, task: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{env}-{task}").strip("-").lower()


def _save(
    png: Path, task: str, column: str, curves: dict[str, tuple[np.ndarray, Estimate]]
) -> Path:
    # The object interface: no backend is chosen for the user's own pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, (label, (steps, estimate)) in enumerate(curves.items()):
        color = f"C{i % 10}"
        axes.plot(steps, estimate.iqm, color=color, label=label)
        axes.fill_between(steps, estimate.low, estimate.high, color=color, alpha=0.2, linewidth=0)
    axes.set(title=task, xlabel="environment steps", ylabel=UNITS.get(column, column))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="interquartile mean, 95 % interval")
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=130)
    return png
