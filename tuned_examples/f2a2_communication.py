"""How much must agents talk? F2A2's two tables of communication, in small: table and plot.

Tables 4 and 5 of the F2A2 paper ask how the return depends on who exchanges critics with whom, and
how often. Here F2A2SAC does so on rover tower with two pairs.

How to run this script
----------------------
`python tuned_examples/f2a2_communication.py`

trains with 0, 20, 60 and 100 % of the edges of a complete graph (0: nobody exchanges; else a ring,
and of the other edges that share, drawn anew for each round), and with 20 and 200 updates between
exchanges on a complete graph in place of one; three seeds each. Every run is one process; as many
run at once as Ray has CPUs (`--parallel N` says how many on this machine; a cluster is used
through RAY_ADDRESS). It writes into `--docs` (default: docs/results)

    data/f2a2_communication/  of every run, the returns of all iterations, and its commit
    f2a2_communication.md     the tables
    f2a2_communication.png    the end of all runs, by topology and by interval

A run that is in data/f2a2_communication/ already is not repeated, so that the command can be
stopped and given again. `--docs some/empty/folder` makes all of it anew.

Settings
--------
Those of `f2a2_comparison.py`. As in the paper, an interval is drawn by each agent after each
exchange from a normal distribution, whose deviation is half its mean.

Results to expect
-----------------
docs/results/README.md, "Decentralised training".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from f2a2_comparison import AGENTS, mean_over_agents
from f2a2_comparison import configure as configured

from rllib_hetero.reporting.comparison import (
    Comparison,
    Run,
    add_arguments,
    mean_between,
    table,
    with_deviation,
)

GAME = "rover_tower"
CONSENSUS = {
    "none": {"topology": "none"},
    # With extra edges drawn anew for each round.
    "ring_20": {"topology": "ring", "extra_edges": 0.2},
    "ring_60": {"topology": "ring", "extra_edges": 0.6},
    "full": {"topology": "full"},
    "full_every_20": {"topology": "full", "interval": (20.0, 10.0)},
    "full_every_200": {"topology": "full", "interval": (200.0, 100.0)},
}
# The tables' columns. They have their first and their last runs in common.
TABLES = {
    "edges of the complete graph": {
        "0 %": "none", "20 %": "ring_20", "60 %": "ring_60", "100 %": "full",
    },
    "updates between exchanges": {
        "never": "none", "200": "full_every_200", "20": "full_every_20", "1": "full",
    },
}  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CONSENSUS), default=list(CONSENSUS))
    parser.add_argument("--show-only", action="store_true", help="of what is kept, no training")
    add_arguments(parser, out="results/f2a2_communication", env_steps=100_000)
    return parser.parse_args()


def all_runs(args: argparse.Namespace) -> list[Run]:
    return [
        Run((case,), seed, args.env_steps)
        for seed in sorted(args.seeds or (1, 2, 3))
        for case in args.cases
    ]


def configure(run: Run):
    (case,) = run.what
    return configured(Run((GAME, "F2A2SAC"), run.seed, run.env_steps)).consensus(**CONSENSUS[case])


def ends(comparison: Comparison, runs: list[Run], end: int) -> dict[str, list[float]]:
    """Mean over agents of the last tenth, of each seed."""
    return {
        case: [mean_between(mean_over_agents(c, GAME), 0.9 * end, end) for c in curves]
        for (case,), curves in comparison.curves(runs).items()
    }


def write_table(comparison: Comparison, runs: list[Run], page: Path, end: int) -> None:
    found = ends(comparison, runs, end)
    lines = [
        "# Communication",
        "",
        "Made by `python tuned_examples/f2a2_communication.py`, which tells the settings. F2A2SAC",
        f"on rover tower with {AGENTS[GAME] // 2} pairs: mean over agents of an episode's return",
        "in the last tenth of the training; mean ± deviation over seeds.",
        "",
        "![Return by topology and by interval](f2a2_communication.png)",
    ]
    for heading, columns in TABLES.items():
        kept = [found.get(case, []) for case in columns.values()]
        if not any(kept):
            continue
        cells = [with_deviation(x) if x else "-" for x in kept]
        header = [heading, *columns, "seeds"]
        row = ["F2A2SAC", *cells, str(max(len(x) for x in kept))]
        lines += ["", *table(header, [row])]
    lines += ["", f"{end:,} environment steps a run. Commits: {comparison.commits(runs)}."]
    page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def draw(png: Path, found: dict[str, list[float]]) -> None:
    """All seeds as points, their means as a line, evenly spaced as in the paper's tables."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (heading, columns) in zip(
        figure.subplots(1, 2, sharey=True), TABLES.items(), strict=True
    ):
        kept = [found.get(case, []) for case in columns.values()]
        for x, of_seeds in enumerate(kept):
            axes.plot([x] * len(of_seeds), of_seeds, "o", color="C0", alpha=0.5)
        means = [float(np.mean(y)) if y else np.nan for y in kept]
        axes.plot(range(len(columns)), means, color="C0")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_xlabel(heading)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("return, mean over agents", fontsize=10)
    figure.savefig(png, dpi=120)


def main() -> None:
    args = parse()
    runs = all_runs(args)
    comparison = Comparison(args.docs / "data" / "f2a2_communication", args.out)
    if not args.show_only:
        comparison.train(runs, configure, parallel=args.parallel)
    runs = [run for run in runs if comparison.has(run)]
    if not runs:
        raise SystemExit(f"There is nothing to show in {comparison.data}.")
    write_table(comparison, runs, args.docs / "f2a2_communication.md", args.env_steps)
    draw(args.docs / "f2a2_communication.png", ends(comparison, runs, args.env_steps))


if __name__ == "__main__":
    main()
