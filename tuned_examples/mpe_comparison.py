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
where the agents' spaces are equal, the others with one policy for each agent. LayerNorm is on every
input, as in HARL; by default it is not on one of three numbers, as the speaker's. HATRPO with
kl_threshold 0.005, as in its paper.

Results to expect
-----------------
docs/results/README.md, "Comparison on MPE".
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rllib_hetero import ALGORITHMS
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.comparison import (
    Comparison,
    Panel,
    Run,
    add_arguments,
    save_panels,
    stages,
    stages_header,
    table,
)

COMPARED = ("HAPPO", "HATRPO", "HAA2C", "A2PO", "CoPPO", "MAPPO")
KINDS = ("continuous", "discrete")
SETTINGS = {"HATRPO": {"kl_threshold": 0.005}}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--algorithms", nargs="+", default=list(COMPARED))
    add_arguments(parser, out="results/mpe_comparison", env_steps=500_000)
    return parser.parse_args()


def all_runs(args: argparse.Namespace) -> list[Run]:
    return [
        Run((task, kind, algorithm), seed, args.env_steps)
        for task in sorted(args.tasks)
        for kind in sorted(args.kinds)
        for algorithm in args.algorithms
        for seed in sorted(args.seeds or ((1, 2, 3) if task == "simple_spread" else (1,)))
    ]


def configure(run: Run):
    task, kind, algorithm = run.what
    return (
        ALGORITHMS[algorithm]
        .get_default_config()
        .environment(
            "mpe",
            env_config={"scenario": task, "continuous_actions": kind == "continuous"},
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20)
        .rl_module(model_config={"layer_norm": "all"})
        .training(**SETTINGS.get(algorithm, {}))
        .debugging(seed=run.seed, log_level="ERROR")
    )


def write_table(comparison: Comparison, runs: list[Run], page: Path, end: int) -> None:
    rows = []
    for what, curves in comparison.curves(runs).items():
        seeds = ", ".join(str(run.seed) for run in runs if run.what == what)
        rows.append([*what, seeds, *stages(curves, end, last=0.2)])
    header = ["task", "actions", "algorithm", "seeds", *stages_header(end, last=0.2)]
    lines = [
        "# Comparison on MPE",
        "",
        "Made by `python tuned_examples/mpe_comparison.py`, which tells the settings. Team return "
        "per episode while training; mean ± deviation over seeds.",
        "",
        "![Learning curves](mpe_comparison.png)",
        "",
        *table(header, rows),
        "",
        f"{end:,} environment steps a run. Commits: {comparison.commits(runs)}. Curves: moving",
        "average over 9 iterations, mean of the seeds, and a band from the lowest to the highest.",
    ]
    page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def panel(comparison: Comparison, runs: list[Run], task: str, kind: str) -> Panel:
    curves = comparison.curves([run for run in runs if run.what[:2] == (task, kind)])
    return Panel(f"{task}, {kind}", {what[2]: seeds for what, seeds in curves.items()})


def main() -> None:
    args = parse()
    runs = all_runs(args)
    comparison = Comparison(args.docs / "data" / "comparison", args.out)
    # One seed of everything first, so that a stopped command leaves a whole picture.
    comparison.train(sorted(runs, key=lambda r: r.seed), configure, parallel=args.parallel)
    runs = [run for run in runs if comparison.has(run)]
    write_table(comparison, runs, args.docs / "mpe_comparison.md", args.env_steps)
    panels = [[panel(comparison, runs, task, kind) for task in args.tasks] for kind in args.kinds]
    save_panels(args.docs / "mpe_comparison.png", panels, args.algorithms)


if __name__ == "__main__":
    main()
