"""BPPO, its baselines and its ablations, on matrix games and Multi-Agent MuJoCo.

How to run this script
----------------------
`python tuned_examples/bppo_comparison.py`

trains MAPPO, HAPPO, ARMAPPO without and with projection, and BPPO: on the two matrix games 1M
environment steps with 10 seeds each, on HalfCheetah 6x1 2M steps with 3 seeds, 115 runs. Every
run is one process; as many run at once as Ray has CPUs (`--parallel N` says how many on this
machine; a cluster is used through RAY_ADDRESS). It writes into `--docs` (default: docs/results)

    data/bppo/             of every run, the returns of all iterations, and its commit
    bppo_comparison.md     the tables
    bppo_comparison.png    the curves

A run that is in data/bppo/ already is not repeated, so that the command can be stopped and given
again. `--docs some/empty/folder` makes all of it anew. Page and picture show all that is in
data/bppo/, whatever was trained last.

The ablations, 100 runs more: `--ablations --tasks climbing penalty`

Other tasks: `--tasks walker2d_6x1 ant_4x2 simple_spread`

A part of it: `--tasks climbing --methods happo bppo --seeds 1 2 3`

Page and picture of what is finished, without training: `--show-only`

Settings
--------
Those of the paper (Li et al., AAAI 2024, Tables 3 to 7) where it names them: every agent has a
policy of its own, also MAPPO's. Matrix games: 50 environments, 10,000 steps per iteration, networks
of 2 x 64, 15 epochs, lr 5e-4, entropy 0.01. MuJoCo: 40 environments, 4000 steps per iteration,
networks of 3 x 64, 5 epochs, lr 3e-4, no entropy bonus; agents see their own joints only, on Ant
the whole state. `simple_spread`: the library's defaults. All: clip 0.2, gamma 0.99, lambda 0.95;
LayerNorm on every input, the games' one or two numbers too, as in the authors' code.

Results to expect
-----------------
docs/results/README.md, "BPPO and its baselines".
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rllib_hetero import ALGORITHMS
from rllib_hetero.reporting.comparison import (
    Comparison,
    Curve,
    Panel,
    Run,
    add_arguments,
    mean_between,
    save_panels,
    short,
    stages,
    stages_header,
    table,
    with_deviation,
)
from rllib_hetero.reporting.curve import on_common_steps

LAST = 0.1
"""The share of a run's steps that counts as its end."""


class Task(NamedTuple):
    """What is trained on, with which settings; `optimum` is the best return, where it is known."""

    title: str
    env: str
    env_config: dict[str, Any]
    env_steps: int
    seeds: Sequence[int]
    num_envs: int
    training: dict[str, Any]
    hidden_sizes: list[int]
    optimum: float | None = None


class Method(NamedTuple):
    """An algorithm with settings of its own."""

    label: str
    algorithm: str
    training: dict[str, Any] = {}  # noqa: RUF012  (never changed in place)
    model_config: dict[str, Any] = {}  # noqa: RUF012


def matrix_game(title: str, game: dict[str, Any], optimum: float) -> Task:
    training = {
        "train_batch_size_per_learner": 10_000,
        "lr": 5e-4,
        "num_epochs": 15,
        "entropy_coeff": 0.01,
    }
    seeds = range(1, 11)
    return Task(title, "matrix_game", game, 1_000_000, seeds, 50, training, [64, 64], optimum)


def mujoco(scenario: str, agent_conf: str, agent_obsk: int | None) -> Task:
    robot = {"scenario": scenario, "agent_conf": agent_conf, "agent_obsk": agent_obsk}
    training = {
        "train_batch_size_per_learner": 4000,
        "lr": 3e-4,
        "num_epochs": 5,
        "entropy_coeff": 0.0,
    }
    title, seeds = f"{scenario} {agent_conf}", (1, 2, 3)
    return Task(title, "mamujoco", robot, 2_000_000, seeds, 40, training, [64, 64, 64])


TASKS = {
    "climbing": matrix_game("Climbing", {"game": "climbing"}, optimum=11),
    "penalty": matrix_game("Penalty, k = -100", {"game": "penalty", "penalty": -100}, optimum=10),
    "halfcheetah_6x1": mujoco("HalfCheetah", "6x1", agent_obsk=0),
    "walker2d_6x1": mujoco("Walker2d", "6x1", agent_obsk=0),
    "ant_4x2": mujoco("Ant", "4x2", agent_obsk=None),
    "simple_spread": Task(
        "MPE simple_spread, continuous",
        "mpe",
        {"scenario": "simple_spread", "continuous_actions": True},
        env_steps=500_000,
        seeds=(1, 2, 3),
        num_envs=20,
        training={},
        hidden_sizes=[128, 128],
    ),
}
BASELINES = {
    "mappo": Method("MAPPO", "MAPPO"),
    "happo": Method("HAPPO", "HAPPO"),
    "armappo": Method("ARMAPPO", "ARMAPPO", model_config={"action_projection": False}),
    "armappo_proj": Method("ARMAPPO w/ PROJ", "ARMAPPO"),
}
BPPO = {"bppo": Method("BPPO", "BPPO")}
ABLATIONS = {
    "bppo_simultaneous": Method("BPPO, simultaneous", "BPPO", {"update_scheme": "simultaneous"}),
    "bppo_no_peer": Method("BPPO, no peer term", "BPPO", {"peer_coeff": 0.0}),
    "bppo_reverse": Method("BPPO, reverse order", "BPPO", {"execution_order": "reverse"}),
    "bppo_random": Method("BPPO, random order", "BPPO", {"execution_order": "random"}),
    "bppo_no_proj": Method("BPPO w/o PROJ", "BPPO", model_config={"action_projection": False}),
}
METHODS = BASELINES | BPPO | ABLATIONS


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ["climbing", "penalty", "halfcheetah_6x1"]
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=default)
    default = [*BASELINES, *BPPO]
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=default)
    parser.add_argument("--ablations", action="store_true", help="BPPO's ablations as well")
    add_arguments(parser, out="results/bppo_comparison", env_steps=None)
    parser.add_argument(
        "--show-only", action="store_true", help="train nothing, show the runs that are finished"
    )
    return parser.parse_args()


def chosen_runs(args: argparse.Namespace) -> list[Run]:
    """One seed of everything first, so that a stopped command leaves a whole picture."""
    methods = dict.fromkeys([*args.methods, *(ABLATIONS if args.ablations else ())])
    runs = [
        Run((task, method), seed, args.env_steps or TASKS[task].env_steps)
        for task in args.tasks
        for method in methods
        for seed in args.seeds or TASKS[task].seeds
    ]
    return sorted(runs, key=lambda run: run.seed)


def configure(run: Run):
    task, method = TASKS[run.what[0]], METHODS[run.what[1]]
    return (
        ALGORITHMS[method.algorithm]
        .get_default_config()
        .environment(task.env, env_config=task.env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=task.num_envs)
        .multi_agent(parameter_sharing="none")
        .rl_module(
            model_config={
                "hidden_sizes": task.hidden_sizes,
                "layer_norm": "all",
                **method.model_config,
            }
        )
        .training(clip_param=0.2, gamma=0.99, lambda_=0.95, **task.training)
        .training(**method.training)
        .debugging(seed=run.seed, log_level="ERROR")
    )


# ---- what is shown --------------------------------------------------------------------------


def game_cells(curves: Sequence[Curve], optimum: float, end: int) -> list[str]:
    """At the optimum, return at the end, and when the mean of the seeds got to 90 %."""
    at_end = [mean_between(curve, (1 - LAST) * end, end) for curve in curves]
    found = sum(abs(value - optimum) <= 0.5 for value in at_end)
    steps, values = on_common_steps(curves)
    there = steps[values.mean(0) >= 0.9 * optimum]
    reached = short(there[0]) if len(there) else "-"
    return [f"{found} of {len(curves)}", with_deviation(at_end), reached]


def kept_runs(comparison: Comparison, args: argparse.Namespace) -> list[Run]:
    return [
        run
        for name, task in TASKS.items()
        for method in METHODS
        for run in comparison.kept((name, method), args.env_steps or task.env_steps)
    ]


def section(comparison: Comparison, runs: Sequence[Run]) -> list[str]:
    """The table of one task."""
    task, end = TASKS[runs[0].what[0]], runs[0].env_steps
    header = ["method", "seeds"]
    if task.optimum is None:
        header += stages_header(end, LAST)
        about = f"{end:,} environment steps a run."
    else:
        last = short(LAST * end)
        header += ["at the optimum", f"last {last}", "90 % of it from"]
        about = f"{end:,} environment steps a run. The Pareto optimum is {task.optimum:g}."
    rows = []
    for what, curves in comparison.curves(runs).items():
        seeds = ", ".join(str(run.seed) for run in runs if run.what == what)
        if task.optimum is None:
            cells = stages(curves, end, LAST)
        else:
            cells = game_cells(curves, task.optimum, end)
        rows.append([METHODS[what[1]].label, seeds, *cells])
    return [f"## {task.title}", "", about, "", *table(header, rows), ""]


def write_page(comparison: Comparison, runs: Sequence[Run], page: Path) -> None:
    lines = [
        "# BPPO and its baselines",
        "",
        "Made by `python tuned_examples/bppo_comparison.py`, which tells the settings. Team return "
        "per episode while training, so of sampled actions; mean ± deviation over seeds.",
        "",
        "In the tables of the matrix games, a seed is *at the optimum* if its mean return over the "
        "last tenth of the steps is within 0.5 of it. *90 % of it from* is the first step at which "
        "the mean of the seeds had 90 % of it.",
        "",
        "![Learning curves](bppo_comparison.png)",
        "",
    ]
    for task in dict.fromkeys(run.what[0] for run in runs):
        lines += section(comparison, [run for run in runs if run.what[0] == task])
    lines += [
        f"Commits: {comparison.commits(runs)}. Curves: moving average over 9 iterations, on matrix "
        "games 3, mean of the seeds, and a band from the lowest to the highest.",
    ]
    page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def panel(comparison: Comparison, runs: Sequence[Run], task: str, methods: Sequence[str]) -> Panel:
    chosen = [run for run in runs if run.what[0] == task and run.what[1] in methods]
    curves = {METHODS[what[1]].label: c for what, c in comparison.curves(chosen).items()}
    title, optimum = TASKS[task].title, TASKS[task].optimum
    return Panel(title, curves, optimum, window=9 if optimum is None else 3)


def draw(comparison: Comparison, runs: Sequence[Run], png: Path) -> None:
    tasks = list(dict.fromkeys(run.what[0] for run in runs))
    ablated = {run.what[0] for run in runs if run.what[1] in ABLATIONS}
    rows = [[panel(comparison, runs, task, [*BASELINES, *BPPO]) for task in tasks]]
    if ablated:
        rows.append(
            [
                panel(comparison, runs, task, [*BPPO, *ABLATIONS]) if task in ablated else None
                for task in tasks
            ]
        )
    save_panels(png, rows, [method.label for method in METHODS.values()])


def main() -> None:
    args = parse()
    comparison = Comparison(args.docs / "data" / "bppo", args.out)
    if args.show_only:
        comparison.keep_finished(chosen_runs(args))
    else:
        comparison.train(chosen_runs(args), configure, parallel=args.parallel)
    runs = kept_runs(comparison, args)
    if not runs:
        raise SystemExit(f"There is nothing to show yet in {comparison.data}.")
    write_page(comparison, runs, args.docs / "bppo_comparison.md")
    draw(comparison, runs, args.docs / "bppo_comparison.png")


if __name__ == "__main__":
    main()
