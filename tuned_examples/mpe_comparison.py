"""All on-policy algorithms on all cooperative particle environments (MPE): table and curves.

How to run this script
----------------------
`python tuned_examples/mpe_comparison.py`

trains 6 algorithms on 3 tasks with continuous and discrete actions, 3 seeds on `simple_spread`
and one on the others, 60 runs of 500k environment steps. Every run is one process; as many run
at once as Ray has CPUs (`--parallel N` says how many on this machine; a cluster is used through
RAY_ADDRESS). It writes into `--docs` (default: docs/results)

    data/comparison/      of every run, the returns of all iterations, and its commit
    mpe_comparison.md     the table
    mpe_comparison.png    the curves

A run that is in data/comparison/ already is not repeated, so that the command can be stopped and
given again. `--docs some/empty/folder` makes all of it anew.

A part of it: `--tasks simple_spread --kinds continuous --algorithms HAPPO A2PO --seeds 1`

Settings
--------
The algorithms' defaults, which are HARL's for MPE: 20 environments x 200 steps per iteration,
networks of 2 x 128, 5 epochs on the whole batch, lr 5e-4; MAPPO and CoPPO with one shared policy
where the agents' spaces are equal, the others with one policy for each agent. HATRPO with
kl_threshold 0.005, as in its paper.

Results to expect
-----------------
docs/results/README.md, "Comparison on MPE".
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import torch

from rllib_hetero import ALGORITHMS
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.curve import on_common_steps, read_column, smooth
from rllib_hetero.reporting.run import run_training

COMPARED = ("HAPPO", "HATRPO", "HAA2C", "A2PO", "CoPPO", "MAPPO")
KINDS = ("continuous", "discrete")
SETTINGS = {"HATRPO": {"kl_threshold": 0.005}}


@dataclass(frozen=True)
class Run:
    """One training: what, where, and its random seed."""

    task: str
    kind: str
    algorithm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task}-{self.kind}-{self.algorithm.lower()}-s{self.seed}"

    def train(self, folder: Path, env_steps: int) -> Run:
        torch.set_num_threads(1)
        config = (
            ALGORITHMS[self.algorithm]
            .get_default_config()
            .environment(
                "mpe",
                env_config={
                    "scenario": self.task,
                    "continuous_actions": self.kind == "continuous",
                },
            )
            .env_runners(num_env_runners=0, num_envs_per_env_runner=20)
            .training(**SETTINGS.get(self.algorithm, {}))
            .debugging(seed=self.seed, log_level="ERROR")
        )
        run_training(config, env_steps=env_steps, out=folder / self.name, quiet=True)
        return self


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--algorithms", nargs="+", default=list(COMPARED))
    parser.add_argument("--seeds", nargs="+", type=int, default=None)
    parser.add_argument("--env-steps", type=int, default=500_000)
    parser.add_argument("--parallel", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("results/mpe_comparison"))
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    return parser.parse_args()


def all_runs(args: argparse.Namespace) -> list[Run]:
    """One seed of everything first, so that a stopped command leaves a whole picture."""
    runs = [
        Run(task, kind, algorithm, seed)
        for task in args.tasks
        for kind in args.kinds
        for algorithm in args.algorithms
        for seed in (args.seeds or ((1, 2, 3) if task == "simple_spread" else (1,)))
    ]
    return sorted(runs, key=lambda run: run.seed)


def train_all(runs: list[Run], args: argparse.Namespace) -> None:
    data, folder = args.docs / "data" / "comparison", args.out.resolve()
    data.mkdir(parents=True, exist_ok=True)
    missing = [run for run in runs if not (data / f"{run.name}.csv").exists()]
    for run in [r for r in missing if (folder / r.name / "checkpoint").exists()]:
        keep(run, folder, data)
        missing.remove(run)
    if not missing:
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
    else:
        ray.init(address="local", num_cpus=args.parallel, include_dashboard=False)

    @ray.remote(num_cpus=1, max_retries=0)
    def train(run: Run) -> Run:
        return run.train(folder, args.env_steps)

    waiting = [train.remote(run) for run in missing]
    while waiting:
        (done,), waiting = ray.wait(waiting)
        run = ray.get(done)
        keep(run, folder, data)
        print(f"{run.name}: done, {len(waiting)} to go", flush=True)
    ray.shutdown()


def keep(run: Run, folder: Path, data: Path) -> None:
    """Copies a run's returns, and of which commit they are."""
    steps, values = read_column(folder / run.name / "progress.csv", "episode_return_mean")
    commits = data / "commits.json"
    known = json.loads(commits.read_text()) if commits.exists() else {}
    known[run.name] = json.loads((folder / run.name / "run.json").read_text())["git_commit"]
    commits.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    with open(data / f"{run.name}.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["env_steps", "episode_return_mean"])
        rows.writerows(
            [int(step), f"{value:.2f}"] for step, value in zip(steps, values, strict=True)
        )


# ---- what is shown --------------------------------------------------------------------------


def returns_of(run: Run, docs: Path) -> tuple[np.ndarray, np.ndarray]:
    return read_column(docs / "data" / "comparison" / f"{run.name}.csv", "episode_return_mean")


def mean_over(steps: np.ndarray, values: np.ndarray, first: float, last: float) -> float:
    return float(values[(steps > first) & (steps <= last)].mean())


def with_deviation(values: list[float]) -> str:
    text = f"{np.mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values):.1f}"


def write_table(runs: list[Run], args: argparse.Namespace) -> None:
    end, cells = args.env_steps, {}
    for run in runs:
        steps, values = returns_of(run, args.docs)
        row = cells.setdefault((run.task, run.kind, run.algorithm), ([], [], [], []))
        row[0].append(run.seed)
        row[1].append(values[0])
        row[2].append(mean_over(steps, values, 0.4 * end, 0.6 * end))
        row[3].append(mean_over(steps, values, 0.8 * end, end))
    commits = json.loads((args.docs / "data" / "comparison" / "commits.json").read_text())
    used = sorted({commits[run.name][:7] for run in runs})
    lines = [
        "# Comparison on MPE",
        "",
        "Made by `python tuned_examples/mpe_comparison.py`, which tells the settings. Team return "
        "per episode while training; mean ± deviation over seeds.",
        "",
        "![Learning curves](mpe_comparison.png)",
        "",
        "| task | actions | algorithm | seeds | first iteration | "
        f"{0.4 * end / 1e3:.0f}k to {0.6 * end / 1e3:.0f}k | last {0.2 * end / 1e3:.0f}k |",
        "|---|---|---|---|---|---|---|",
    ]
    for (task, kind, algorithm), (seeds, *columns) in cells.items():
        shown = " | ".join(map(with_deviation, columns))
        lines.append(f"| {task} | {kind} | {algorithm} | {', '.join(map(str, seeds))} | {shown} |")
    lines += ["", f"{end:,} environment steps a run. Commits: {', '.join(used)}. Curves: moving"]
    lines += [
        "average over 9 iterations, mean of the seeds, and a band from the lowest to the highest."
    ]
    (args.docs / "mpe_comparison.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def draw(runs: list[Run], args: argparse.Namespace) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(11, 4.6 * len(args.kinds)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(args.kinds), len(args.tasks), squeeze=False, sharex=True)
    for i, kind in enumerate(args.kinds):
        for j, task in enumerate(args.tasks):
            axes = grid[i][j]
            for k, algorithm in enumerate(args.algorithms):
                seeds = [
                    r for r in runs if (r.task, r.kind, r.algorithm) == (task, kind, algorithm)
                ]
                curves = [(s, smooth(v, 9)) for s, v in (returns_of(r, args.docs) for r in seeds)]
                steps, values = on_common_steps(curves)
                axes.plot(steps, values.mean(0), color=f"C{k}", label=algorithm, linewidth=1.3)
                if len(seeds) > 1:
                    low, high = values.min(0), values.max(0)
                    axes.fill_between(steps, low, high, color=f"C{k}", alpha=0.12, linewidth=0)
            axes.set_title(f"{task}, {kind}", fontsize=10)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("environment steps", fontsize=10)
    figure.supylabel("team return per episode (training)", fontsize=10)
    grid[0][0].legend(frameon=False, fontsize=9)
    figure.savefig(args.docs / "mpe_comparison.png", dpi=120)


def main() -> None:
    args = parse()
    runs = all_runs(args)
    train_all(runs, args)
    runs.sort(key=lambda r: (r.task, r.kind, args.algorithms.index(r.algorithm), r.seed))
    write_table(runs, args)
    draw(runs, args)


if __name__ == "__main__":
    main()
