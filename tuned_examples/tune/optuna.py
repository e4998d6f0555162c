"""Optuna: settings are proposed by what earlier trials have come to.

Each proposal is tried with two seeds, and Optuna is told their mean. It learns from trials that
have ended, so only four run at once.

How to run this script
----------------------
`pip install 'rllib_hetero[optuna,report]'`, then
`python tuned_examples/tune/optuna.py --out results/optuna`

After the driver was killed, the same line with `--resume` goes on. The folder then holds
`results.md`, a row for each algorithm, and `trials.csv`, one for each trial.
"""

import argparse

from rllib_hetero import ALGORITHMS
from rllib_hetero.tuning import Plan, make_study

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--algo", nargs="+", choices=list(ALGORITHMS), default=["HAPPO", "HATRPO"])
parser.add_argument("--env-steps", type=int, default=100_000, help="of each trial")
parser.add_argument("--out", default="results/optuna")
parser.add_argument("--resume", action="store_true")


def make_config(args, algo=None):
    return (
        ALGORITHMS[algo or args.algo[0]]
        .get_default_config()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=10)
        .rl_module(model_config={"hidden_sizes": [32]})
        .training(train_batch_size_per_learner=500)
    )


def study_of(args):
    plan = Plan(
        env_steps=args.env_steps,
        search="optuna",
        num_samples=16,
        seeds=(1, 2),
        max_concurrent=4,
    )
    return make_study([make_config(args, algo) for algo in args.algo], plan, args.out)


if __name__ == "__main__":
    args = parser.parse_args()
    result = study_of(args).fit(resume=args.resume)
    print(result.table.read_text())
