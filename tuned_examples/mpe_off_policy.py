"""The off-policy algorithms on the cooperative particle environments (MPE): table and curves.

How to run this script
----------------------
`python tuned_examples/mpe_off_policy.py`

trains with continuous actions HADDPG, HATD3, HASAC, MADDPG, MATD3 and MASAC for 100k environment
steps, 3 seeds on `simple_spread` and one on the other tasks; `--kinds discrete` HAD3QN, HATD3,
HASAC, QMIX, VDN and IQL for 300k.
Every run is one process; as many run at once as Ray has CPUs (`--parallel N` says how many on
this machine; a cluster is used through RAY_ADDRESS). It writes into `--docs` (default:
docs/results)

    data/mpe_off_policy/  of every run, the returns of all iterations, and its commit
    mpe_off_policy.md     the table, and mpe_off_policy_discrete.md
    mpe_off_policy.png    the curves, likewise

A run that is in data/mpe_off_policy/ already is not repeated, so that the command can be stopped
and given again; `--show-only` trains nothing. `--docs some/empty/folder` makes all of it anew.

Settings
--------
HARL's for MPE (Tables 5 and 7), which are the algorithms' defaults: 20 environments, 50 updates of
1000 transitions after 50 steps of each, 10k steps of random actions before, networks of 2 x 128,
actors 5e-4, critics 1e-3, tau 0.005. HASAC and MASAC as HASAC's authors have them for MPE: critics
5e-4, networks of 2 x 256, returns over 20 steps; discrete policies are to keep 0.3 of the uniform
one's entropy, not 0.98. Where agents talk, HAD3QN fits the values of all of an agent's actions,
and explores from 1 down to 0.05 over 100k steps. QMIX, VDN and IQL with their own defaults, which
are those of EPyMARL's QMIX, but for TD(0.6) and targets that follow by 0.01 with every update.

Results to expect
-----------------
docs/results/README.md, "Off-policy algorithms on MPE".
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

COMPARED = {
    "continuous": ("HADDPG", "HATD3", "HASAC", "MADDPG", "MATD3", "MASAC"),
    "discrete": ("HAD3QN", "HATD3", "HASAC", "QMIX", "VDN", "IQL"),
}
LENGTHS = {"continuous": 100_000, "discrete": 300_000}
# One-step values drift away, and hard updates of the targets unlearn: docs/algorithms/qmix.md.
LASTING = {"lambda_": 0.6, "tau": 0.01, "target_network_update_freq": 1}
SETTINGS = {
    "HASAC": {"n_step": 20, "target_entropy_fraction": 0.3},
    "MASAC": {"n_step": 20, "target_entropy_fraction": 0.3},
    "QMIX": LASTING,
    "VDN": LASTING,
    "IQL": LASTING,
}
# What the paper fits does not tell a speaker's words apart: docs/algorithms/had3qn.md.
TALKING = {"fitted_actions": "all", "epsilon": [[0, 1.0], [100_000, 0.05]]}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--kinds", nargs="+", choices=list(COMPARED), default=["continuous"])
    parser.add_argument("--algorithms", nargs="+", help="default: all that are compared")
    parser.add_argument("--show-only", action="store_true", help="of what is kept, no training")
    add_arguments(parser, out="results/mpe_off_policy", env_steps=None)
    return parser.parse_args()


def all_runs(args: argparse.Namespace) -> list[Run]:
    return [
        Run((task, kind, algorithm), seed, args.env_steps or LENGTHS[kind])
        for task in sorted(args.tasks)
        for kind in sorted(args.kinds)
        for algorithm in args.algorithms or COMPARED[kind]
        for seed in sorted(args.seeds or ((1, 2, 3) if task == "simple_spread" else (1,)))
    ]


def configure(run: Run):
    task, kind, algorithm = run.what
    settings = SETTINGS.get(algorithm, {})
    if algorithm == "HAD3QN" and task != "simple_spread":
        settings = TALKING
    return (
        ALGORITHMS[algorithm]
        .get_default_config()
        .environment(
            "mpe",
            env_config={"scenario": task, "continuous_actions": kind == "continuous"},
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20)
        .training(replay_in_checkpoint=False, **settings)
        .debugging(seed=run.seed, log_level="ERROR")
    )


def write_table(comparison: Comparison, runs: list[Run], page: Path) -> None:
    rows, end = [], runs[0].env_steps
    for what, curves in comparison.curves(runs).items():
        seeds = ", ".join(str(run.seed) for run in runs if run.what == what)
        rows.append([*what, seeds, *stages(curves, end, last=0.1)])
    header = ["task", "actions", "algorithm", "seeds", *stages_header(end, last=0.1)]
    lines = [
        "# Off-policy algorithms on MPE",
        "",
        "Made by `python tuned_examples/mpe_off_policy.py`, which tells the settings. Team return "
        "per episode while training; mean ± deviation over seeds.",
        "",
        f"![Learning curves]({page.stem}.png)",
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
    comparison = Comparison(args.docs / "data" / "mpe_off_policy", args.out)
    if not args.show_only:
        # One seed of everything first, so that a stopped command leaves a whole picture.
        comparison.train(sorted(runs, key=lambda r: r.seed), configure, parallel=args.parallel)
    for kind in args.kinds:
        kept = [run for run in runs if run.what[1] == kind and comparison.has(run)]
        if not kept:
            continue
        name = "mpe_off_policy" if kind == "continuous" else f"mpe_off_policy_{kind}"
        write_table(comparison, kept, args.docs / f"{name}.md")
        tasks = [task for task in args.tasks if any(run.what[0] == task for run in kept)]
        panels = [[panel(comparison, kept, task, kind) for task in tasks]]
        names = sorted({run.what[2] for run in kept})
        save_panels(args.docs / f"{name}.png", panels, names)


if __name__ == "__main__":
    main()
