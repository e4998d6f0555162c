"""Which off-policy algorithms find the best joint action of a matrix game?

Climbing and penalty punish those who change their action alone: the best joint action is worth
it only if both players choose it.

How to run this script
----------------------
`python tuned_examples/matrix_off_policy.py`

trains every algorithm on both games with 5 seeds each, in one process, some ten seconds a run, and
writes into `--docs` (default: docs/results)

    data/matrix_off_policy.csv  of every run, what the greedy policies get, and the commit
    matrix_off_policy.md        the table

A run that is in the file already is not repeated. `--docs some/empty/folder` makes all of it anew.

Settings
--------
10 environments; 2,000 updates of 128 transitions, one after every 10 steps, 1,000 random steps
before; networks of 2 x 64, both rates 1e-3; epsilon, where there is one, from 1 to 0.05 over 5,000
steps; targets that follow by 0.01; else the algorithms' defaults.

Results to expect
-----------------
docs/results/README.md, "Off-policy algorithms on matrix games".
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from rllib_hetero import ALGORITHMS
from rllib_hetero.reporting.comparison import table
from rllib_hetero.reporting.record import versions_and_commit

ALL = ("HADDPG", "HATD3", "HASAC", "HAD3QN", "MADDPG", "MATD3", "MASAC", "QMIX", "VDN", "IQL")
GAMES: dict[str, tuple[dict[str, Any], float]] = {
    "climbing": ({"game": "climbing"}, 11.0),
    "penalty": ({"game": "penalty", "penalty": -100}, 10.0),
}
"""Name to the environment's config and the best return."""
COLUMNS = ("game", "algorithm", "seed", "greedy_return", "commit")
ENVS, STEPS, BATCH, WARM_UP = 10, 10, 128, 1000


def configure(algorithm: str, game: str, seed: int) -> Any:
    config = ALGORITHMS[algorithm].get_default_config()
    if hasattr(config, "epsilon"):
        config.training(epsilon=[[0, 1.0], [5_000, 0.05]])
    if algorithm in ("QMIX", "VDN", "IQL"):
        config.training(lr=1e-3)
    else:
        config.training(lr=1e-3, critic_lr=1e-3)
    return (
        config.environment("matrix_game", env_config=GAMES[game][0])
        .env_runners(num_env_runners=0, num_envs_per_env_runner=ENVS, rollout_fragment_length=STEPS)
        .rl_module(model_config={"hidden_sizes": [64, 64]})
        .training(
            train_batch_size_per_learner=BATCH,
            training_intensity=BATCH / 10,
            num_steps_sampled_before_learning_starts=WARM_UP,
            tau=0.01,
            target_network_update_freq=1,
            n_step=1,
            replay_buffer_config={"capacity": 20_000},
        )
        .evaluation(evaluation_duration=ENVS)
        .debugging(seed=seed, log_level="ERROR")
    )


def greedy_return(algorithm: str, game: str, seed: int, updates: int) -> float:
    """What the final policies get without exploration."""
    algo = configure(algorithm, game, seed).build_algo()
    for _ in range((WARM_UP + 10 * updates) // (ENVS * STEPS)):
        algo.train()
    found = algo.evaluate()["env_runners"]["episode_return_mean"]
    algo.stop()
    return float(found)


def rows_of(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def append(file: Path, row: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    with open(file, "a", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def write_table(rows: list[dict[str, str]], page: Path, updates: int) -> None:
    cells = []
    for algorithm in ALL:
        found = {
            g: [r for r in rows if (r["game"], r["algorithm"]) == (g, algorithm)] for g in GAMES
        }
        if not any(found.values()):
            continue
        cells.append([algorithm])
        for game, (_, best) in GAMES.items():
            returns = sorted((float(r["greedy_return"]) for r in found[game]), reverse=True)
            hits = sum(abs(x - best) < 1e-3 for x in returns)
            shown = ", ".join(f"{x:g}" for x in returns)
            cells[-1].append(f"{hits} of {len(returns)} ({shown})" if returns else "-")
    commits = sorted({r["commit"][:7] for r in rows})
    lines = [
        "# Off-policy algorithms on matrix games",
        "",
        "Made by `python tuned_examples/matrix_off_policy.py`, which tells the settings. In how",
        "many seeds the greedy policies play the best joint action, and what they get in each.",
        "",
        *table(["algorithm", *(f"{g} (best: {best:g})" for g, (_, best) in GAMES.items())], cells),
        "",
        f"{updates:,} updates a run. Commits: {', '.join(commits)}.",
    ]
    page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithms", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    file = args.docs / "data" / "matrix_off_policy.csv"
    known = {(r["game"], r["algorithm"], r["seed"]) for r in rows_of(file)}
    for seed in args.seeds:
        for algorithm in args.algorithms:
            for game in GAMES:
                if (game, algorithm, str(seed)) in known:
                    continue
                found = greedy_return(algorithm, game, seed, args.updates)
                print(f"{game}, {algorithm}, seed {seed}: {found:g}", flush=True)
                commit = versions_and_commit()["git_commit"] or "unknown"
                append(
                    file, dict(zip(COLUMNS, (game, algorithm, seed, found, commit), strict=True))
                )
    write_table(rows_of(file), args.docs / "matrix_off_policy.md", args.updates)


if __name__ == "__main__":
    main()
