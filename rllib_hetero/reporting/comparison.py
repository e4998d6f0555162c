"""What comparisons of algorithms share: a grid of runs, their kept returns, tables and pictures.

A comparison's script says which runs there are, how each is configured and what its page tells.
Here is the rest: runs that are missing are trained in parallel as Ray tasks; of every run, the
returns of all iterations and the commit are kept. What is kept is not trained again, and a run that
was stopped goes on from its last checkpoint, so that a script can be stopped and started again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from rllib_hetero.reporting.checkpoints import settle
from rllib_hetero.reporting.curve import on_common_steps, read_column, smooth
from rllib_hetero.reporting.lock import locked
from rllib_hetero.reporting.plotting import Diagram, Line, draw, explain, new_figure, save
from rllib_hetero.reporting.resume import resume_training
from rllib_hetero.reporting.run import run_training

CHECKPOINTS = 20
"""How often a run's state is written while it is trained."""

Curve = tuple[np.ndarray, np.ndarray]
"""Environment steps (n,) and the returns (n,) there."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        what: What is trained on what; the seeds of the same `what` are shown as one.
        seed: Its random seed.
        env_steps: How long it is.
    """

    what: tuple[str, ...]
    seed: int
    env_steps: int

    @property
    def name(self) -> str:
        return "-".join((*self.what, f"s{self.seed}")).lower()


def add_arguments(parser: argparse.ArgumentParser, *, out: str, env_steps: int | None) -> None:
    """The arguments of every comparison.

    Args:
        parser: The script's.
        out: Default of --out.
        env_steps: Default of --env-steps.
    """
    parser.add_argument("--seeds", nargs="+", type=int, default=None)
    parser.add_argument("--env-steps", type=int, default=env_steps)
    parser.add_argument("--parallel", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))


# ---- runs and what is kept of them --------------------------------------------------------------


class Comparison:
    """Trains runs, and keeps `<run>.csv` of each and one `commits.json`.

    Args:
        data: The folder of what is kept.
        out: The folder that runs are trained in, each in a folder of its name.
    """

    def __init__(self, data: Path, out: Path) -> None:
        self.data = data
        self.out = out.resolve()  # Ray's workers have a working directory of their own

    def train(self, runs: Sequence[Run], configure: Callable[[Run], Any], *, parallel: int) -> None:
        """Trains the runs that are not kept yet.

        Args:
            runs: In the order they are started.
            configure: Makes a run's config.
            parallel: How many run at once, unless a Ray is running or RAY_ADDRESS names one.
        """
        self.keep_finished(runs)
        missing = []
        for run in runs:
            if self.has(run):
                continue
            if (self.out / run.name).exists():
                # It may be training still.
                print(f"{run.name}: left out, its folder in {self.out} holds an unfinished run")
                continue
            missing.append(run)
        if not missing:
            return
        with _ray(parallel):
            run_of = {
                _train.remote(configure(run), run.env_steps, self.out / run.name): run
                for run in missing
            }
            waiting = list(run_of)
            while waiting:
                (done,), waiting = ray.wait(waiting)
                ray.get(done)
                self._keep(run_of[done])
                print(f"{run_of[done].name}: done, {len(waiting)} to go", flush=True)

    def keep_finished(self, runs: Sequence[Run]) -> None:
        """Keeps the runs that are finished in `out`, whoever trained them."""
        for run in runs:
            if not self.has(run) and self._is_finished(run):
                self._keep(run)

    def has(self, run: Run) -> bool:
        """Whether the run's returns are kept."""
        return self._csv(run).exists()

    def kept(self, what: tuple[str, ...], env_steps: int) -> list[Run]:
        """The kept runs of all seeds."""
        stem = Run(what, 0, env_steps).name[:-1]
        seeds = [path.stem[len(stem) :] for path in self.data.glob(f"{stem}*.csv")]
        return [Run(what, seed, env_steps) for seed in sorted(int(s) for s in seeds if s.isdigit())]

    def curves(self, runs: Sequence[Run]) -> dict[tuple[str, ...], list[Curve]]:
        """The kept returns by `what`. Iterations without a finished episode are left out."""
        found: dict[tuple[str, ...], list[Curve]] = {}
        for run in runs:
            curve = read_column(self._csv(run), "episode_return_mean")
            found.setdefault(run.what, []).append(curve)
        return found

    def commits(self, runs: Sequence[Run]) -> str:
        """The commits that the kept runs are of, in words."""
        known = self._commits()
        return ", ".join(sorted({c for run in runs for c in _short(known[run.name])}))

    def _is_finished(self, run: Run) -> bool:
        # A checkpoint alone may be one of a run that was stopped, or of another length.
        folder = self.out / run.name
        if not (folder / "checkpoint").exists():
            return False
        steps, _ = read_column(folder / "progress.csv", "iteration")
        return bool(steps[-1] >= run.env_steps)

    def _keep(self, run: Run) -> None:
        folder = self.out / run.name
        steps, values = read_column(folder / "progress.csv", "episode_return_mean")
        self.data.mkdir(parents=True, exist_ok=True)
        known = self._commits()
        known[run.name] = _commits_of(json.loads((folder / "run.json").read_text()))
        (self.data / "commits.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        with open(self._csv(run), "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["env_steps", "episode_return_mean"])
            rows.writerows(
                [int(step), f"{value:.2f}"] for step, value in zip(steps, values, strict=True)
            )

    def _commits(self) -> dict[str, str | None]:
        path = self.data / "commits.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _csv(self, run: Run) -> Path:
        return self.data / f"{run.name}.csv"


@ray.remote(num_cpus=1, max_retries=0)
def _train(config: Any, env_steps: int, folder: Path) -> None:
    """Trains beside the folder, and puts it into its place when it is whole."""
    torch.set_num_threads(1)
    beside = folder.with_name(folder.name + ".unfinished")
    # Without its replay a run would go on, but not as if it had not been stopped.
    goes_on = getattr(config, "replay_in_checkpoint", True) is not False
    settings: dict[str, Any] = {"env_steps": env_steps, "quiet": True}
    if goes_on:
        settings["checkpoint_every_steps"] = max(1, env_steps // CHECKPOINTS)
    if goes_on and (beside / "run.json").exists() and settle(beside / "checkpoint"):
        resume_training(beside, **settings)
    else:
        if beside.exists():
            with locked(beside):  # of a script that was stopped, not of one that trains it now
                shutil.rmtree(beside, ignore_errors=True)
        run_training(config, out=beside, **settings)
    beside.rename(folder)


@contextmanager
def _ray(parallel: int) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
    else:
        ray.init(address="local", num_cpus=parallel, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def _commits_of(record: Mapping[str, Any]) -> str | None:
    """Of a run's record: the commit that it began with, and those that it went on with."""
    every = [part["git_commit"] for part in (record, *record.get("resumed", ()))]
    return " ".join(dict.fromkeys(filter(None, every))) or None


def _short(commits: str | None) -> list[str]:
    if commits is None:
        return ["unknown"]
    return [c[:7] + ("-dirty" if c.endswith("-dirty") else "") for c in commits.split()]


# ---- tables -------------------------------------------------------------------------------------


def mean_between(curve: Curve, first: float, last: float) -> float:
    """The mean return after `first` and up to `last` environment steps; NaN if there is none."""
    steps, values = curve
    inside = values[(steps > first) & (steps <= last)]
    return float(inside.mean()) if len(inside) else math.nan


def stages_header(env_steps: int, last: float) -> list[str]:
    """What the numbers of `stages` are."""
    middle = f"{short(0.4 * env_steps)} to {short(0.6 * env_steps)}"
    return ["first iteration", middle, f"last {short(last * env_steps)}"]


def stages(curves: Sequence[Curve], env_steps: int, last: float) -> list[str]:
    """Returns at the beginning, from 40 to 60 % of the steps, and at the end, over seeds.

    Args:
        curves: One for each seed.
        env_steps: The length of the runs.
        last: Which share of it is the end.
    """
    columns = (
        [values[0] if len(values) else math.nan for _, values in curves],
        [mean_between(curve, 0.4 * env_steps, 0.6 * env_steps) for curve in curves],
        [mean_between(curve, (1 - last) * env_steps, env_steps) for curve in curves],
    )
    return [with_deviation(column) for column in columns]


def with_deviation(values: Sequence[float]) -> str:
    """Mean and, of more than one value, population standard deviation; "-" if one is NaN."""
    mean = float(np.mean(values))
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {np.std(values):.1f}"


def short(steps: float) -> str:
    """A number of steps, as "200k" or "1.2M"."""
    return f"{steps / 1e3:.0f}k" if steps < 1e6 else f"{steps / 1e6:g}M"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    shown = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return [shown[0], "|" + "---|" * len(header), *shown[1:]]


def escaped(text: str) -> str:
    """Text of a cell that Markdown shows as it is."""
    return re.sub(r"([\\`*\[\]|<>#$])", r"\\\1", " ".join(text.split()))


# ---- pictures -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One diagram of a picture.

    Attributes:
        title: Its heading.
        curves: Label to the curves of its seeds.
        optimum: The best return there is, drawn as a dashed line; None where it is not known.
        window: Iterations that the curves are averaged over.
    """

    title: str
    curves: Mapping[str, Sequence[Curve]]
    optimum: float | None = None
    window: int = 9


def save_panels(png: Path, rows: Sequence[Sequence[Panel | None]], labels: Sequence[str]) -> None:
    """Draws the mean of the seeds as a line, the lowest and highest of them as a band.

    Args:
        png: Where the picture goes.
        rows: Rows of equal length; None leaves a place empty.
        labels: All labels. One has the same colour in all panels.
    """
    columns = len(rows[0])
    figure = new_figure(11 / 3 * max(columns, 2), 4.6 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False, sharex="col")
    explained: dict[str, Any] = {}
    for i, (row, places) in enumerate(zip(rows, grid, strict=True)):
        shown: dict[str, Any] = {}
        for j, (panel, axes) in enumerate(zip(row, places, strict=True)):
            if panel is None:
                axes.set_visible(False)
                grid[i - 1][j].tick_params(labelbottom=True)  # it is the lowest now
            else:
                shown |= draw(_diagram(panel, labels), axes, size=10)
        # One legend for rows that show the same.
        if set(shown) != set(explained):
            place = next(axes for axes in places if axes.get_visible())
            order = [label for label in (*labels, _OPTIMUM) if label in shown]
            explain(place, {label: shown[label] for label in order}, fontsize=9)
        explained = shown
    figure.supxlabel("environment steps", fontsize=10)
    figure.supylabel("team return per episode (training)", fontsize=10)
    save(figure, png, dpi=120)


_OPTIMUM = "optimum"


def _diagram(panel: Panel, labels: Sequence[str]) -> Diagram:
    lines = []
    for label, seeds in panel.curves.items():
        curves = [(s, smooth(v, panel.window)) for s, v in seeds if len(s)]
        if curves:
            steps, values = on_common_steps(curves)
            band = (values.min(0), values.max(0)) if len(curves) > 1 else None
            lines.append(Line(label, steps, values.mean(0), band, color=list(labels).index(label)))
    return Diagram(panel.title, lines, {} if panel.optimum is None else {_OPTIMUM: panel.optimum})
