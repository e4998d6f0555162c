"""Centralised and decentralised training on the cooperative particle games: table and curves.

Who needs a centre? MAAC and COMA have one; the agents of F2A2 and of NetworkedAC learn apart, each
from its own rewards, and agree on what they share by messages from one to another.

How to run this script
----------------------
`python tuned_examples/f2a2_comparison.py`

trains F2A2SAC, F2A2TD3, F2A2COMA, MAAC, COMA and NetworkedAC on rover tower with two pairs, on
treasure collection with two hunters and a bank, and on rover tower as the papers have it, with four
pairs; one seed each (`--seeds 1 2 3` for more, `--games` and `--algorithms` for fewer). Every run
is one process; as many run at once as Ray has CPUs (`--parallel N` says how many on this machine; a
cluster is used through RAY_ADDRESS). It writes into `--docs` (default: docs/results)

    data/f2a2_comparison/  of every run, the returns of all iterations, and its commit
    f2a2_comparison.md     the table
    f2a2_comparison.png    the curves

A run that is in data/f2a2_comparison/ already is not repeated, so that the command can be stopped
and given again. `--docs some/empty/folder` makes all of it anew.

Settings
--------
Those of the papers where they have any, for smaller games: 8 environments; networks of 2 x 64 and
minibatches of 256 transitions, 2 updates for each 100 steps, both rates 2e-3, targets moving by
0.01; F2A2TD3 has 8 updates. COMA learns from each 200 steps, with ten steps of the critic for one
of the actors; F2A2COMA and NetworkedAC from the newest 200, ten times for each 200, and their
policies are paid more for entropy, without which the towers soon say always the same. The actors of
all but F2A2SAC and MAAC learn at 5e-4. All agents of a run are in one process, which changes
nothing in the numbers. F2A2's models of other agents are smaller than the paper's and seldom learn:
at its size and pace they take most of the time.

Results to expect
-----------------
docs/results/README.md, "Decentralised training".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from rllib_hetero import ALGORITHMS
from rllib_hetero.reporting.comparison import (
    Comparison,
    Curve,
    Panel,
    Run,
    add_arguments,
    save_panels,
    stages,
    stages_header,
    table,
)

COMPARED = ("F2A2SAC", "F2A2TD3", "F2A2COMA", "MAAC", "COMA", "NetworkedAC")
GAMES = {
    "rover_tower": {"scenario": "rover_tower", "num_pairs": 2, "num_landmarks": 3},
    "treasure_collection": {
        "scenario": "treasure_collection", "num_hunters": 2, "num_banks": 1, "num_treasures": 2,
    },
    "rover_tower_of_8": {"scenario": "rover_tower", "num_pairs": 4, "num_landmarks": 3},
}  # fmt: skip
AGENTS = {"rover_tower": 4, "treasure_collection": 3, "rover_tower_of_8": 8}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", nargs="+", choices=list(GAMES), default=list(GAMES))
    parser.add_argument("--algorithms", nargs="+", default=COMPARED, help="default: all")
    parser.add_argument("--show-only", action="store_true", help="of what is kept, no training")
    add_arguments(parser, out="results/f2a2_comparison", env_steps=150_000)
    return parser.parse_args()


def all_runs(args: argparse.Namespace) -> list[Run]:
    return [
        Run((game, algorithm), seed, args.env_steps)
        for seed in sorted(args.seeds or [1])
        for game in args.games
        for algorithm in args.algorithms
    ]


def configure(run: Run):
    game, algorithm = run.what
    config = ALGORITHMS[algorithm].get_default_config()
    config.environment("cooperative_mpe", env_config=GAMES[game])
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=8)
    config.debugging(seed=run.seed, log_level="ERROR")
    model = {"hidden_sizes": [64, 64]}
    if "attention_size" in config.model_defaults:
        model["attention_size"] = 64
    config.rl_module(model_config=model)
    config.training(lr=2e-3, critic_lr=2e-3, gamma=0.95)
    if algorithm == "COMA":
        # One step of the actors for each 8 episodes of rover tower, as in PyMARL.
        return config.training(
            lr=5e-4,
            train_batch_size_per_learner=200,
            critic_num_epochs=10,
            individual_rewards=True,
        )
    config.env_runners(rollout_fragment_length=25)
    config.training(tau=0.01, standardize_rewards=True)
    if algorithm in ("F2A2COMA", "NetworkedAC"):
        # 5 updates for each 100 steps, of the newest 200.
        config.training(train_batch_size_per_learner=200, training_intensity=10.0)
        config.training(lr=5e-4, entropy_coeff=0.1)
        if algorithm == "NetworkedAC":
            config.training(critic_lr=2e-2, lambda_=0.8)  # Of gradient descent, not of Adam.
    else:
        config.training(
            train_batch_size_per_learner=256,
            training_intensity=5.12,
            num_steps_sampled_before_learning_starts=1000,
            replay_buffer_config={"capacity": 100_000},
        )
        if algorithm == "F2A2TD3":
            config.training(lr=5e-4, training_intensity=20.48)
    config.training(replay_in_checkpoint=False)
    if config.capabilities.family == "decentralised":
        config.learners(agents_per_learner=None)
    if algorithm.startswith("F2A2"):
        config.other_agents(
            update_interval={"F2A2SAC": 4, "F2A2TD3": 16, "F2A2COMA": 20}[algorithm],
            batch_size=300,
            trajectories_per_update=8,
            memory_size=32,
            hidden_size=64,
        )
    return config


def mean_over_agents(curve: Curve, game: str) -> Curve:
    """The papers' score: what is recorded is the sum over the agents."""
    steps, values = curve
    return steps, np.asarray(values) / AGENTS[game]


def curves_of(comparison: Comparison, runs: list[Run]) -> dict[tuple[str, ...], list[Curve]]:
    return {
        what: [mean_over_agents(curve, what[0]) for curve in curves]
        for what, curves in comparison.curves(runs).items()
    }


def write_table(comparison: Comparison, runs: list[Run], page: Path, end: int) -> None:
    rows = []
    for what, curves in curves_of(comparison, runs).items():
        seeds = ", ".join(str(run.seed) for run in runs if run.what == what)
        rows.append([*what, seeds, *stages(curves, end, last=0.1)])
    header = ["game", "algorithm", "seeds", *stages_header(end, last=0.1)]
    lines = [
        "# Decentralised training on the particle games",
        "",
        "Made by `python tuned_examples/f2a2_comparison.py`, which tells the settings. Mean over",
        "agents of an episode's return while training; mean ± deviation over seeds.",
        "",
        "![Learning curves](f2a2_comparison.png)",
        "",
        *table(header, rows),
        "",
        f"{end:,} environment steps a run. Commits: {comparison.commits(runs)}. Curves: moving",
        "average over 9 iterations, mean of the seeds, and a band from the lowest to the highest.",
    ]
    page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def panel(comparison: Comparison, runs: list[Run], game: str) -> Panel:
    curves = curves_of(comparison, [run for run in runs if run.what[0] == game])
    return Panel(game, {what[1]: seeds for what, seeds in curves.items()})


def main() -> None:
    args = parse()
    runs = all_runs(args)
    comparison = Comparison(args.docs / "data" / "f2a2_comparison", args.out)
    if not args.show_only:
        comparison.train(runs, configure, parallel=args.parallel)
    runs = [run for run in runs if comparison.has(run)]
    if not runs:
        raise SystemExit(f"There is nothing to show in {comparison.data}.")
    write_table(comparison, runs, args.docs / "f2a2_comparison.md", args.env_steps)
    games = [game for game in args.games if any(run.what[0] == game for run in runs)]
    panels = [[panel(comparison, runs, game) for game in games]]
    save_panels(args.docs / "f2a2_comparison.png", panels, list(args.algorithms))


if __name__ == "__main__":
    main()
