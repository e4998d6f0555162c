"""Searches the settings of HAPPO and MAPPO on the climbing game: by ASHA, PBT or Optuna.

asha      Settings are drawn at random. At 1/16 and at 1/4 of the steps a trial stops unless it is
          among the best quarter of those that have come as far.
pbt       A population goes on side by side. At every twentieth of the steps, a trial of the worst
          quarter takes over the weights and settings of one of the best, and perturbs the
          settings. Each seed has a population of its own.
optuna    Settings are proposed by what earlier trials have come to. Each proposal is tried with
          both seeds, and Optuna is told their mean. It learns from trials that have ended, so only
          four run at once.

How to run this script
----------------------
`pip install -e '.[optuna,report]'`, then
`python tuned_examples/tune/climbing.py --method pbt --out results/pbt`

After the driver was killed, the same line with `--resume` goes on. The folder then holds
`results.md`, a row for each algorithm, and `trials.csv`, one for each trial.
"""

import argparse

from rllib_hetero import ALGORITHMS
from rllib_hetero.tuning import Plan, make_study

METHODS = {
    "asha": {"scheduler": "asha", "num_samples": 16},
    "pbt": {"scheduler": "pbt", "num_samples": 8},
    "optuna": {"search": "optuna", "num_samples": 16, "max_concurrent": 4},
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--method", choices=METHODS, default="asha")
parser.add_argument("--algo", nargs="+", choices=list(ALGORITHMS), default=["HAPPO", "MAPPO"])
parser.add_argument("--env-steps", type=int, default=100_000, help="of each trial")
parser.add_argument("--out", default="results/climbing")
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
    plan = Plan(env_steps=args.env_steps, seeds=(1, 2), **METHODS[args.method])
    return make_study([make_config(args, algo) for algo in args.algo], plan, args.out)


if __name__ == "__main__":
    args = parser.parse_args()
    result = study_of(args).fit(resume=args.resume)
    print(result.table.read_text())
