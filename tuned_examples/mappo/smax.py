"""MAPPO on SMAX, battles like the StarCraft Multi-Agent Challenge's.

The rival of HAPPO: all agents improve at once and share one policy. Otherwise the same settings as
tuned_examples/happo/smax.py.

How to run this script
----------------------
`python tuned_examples/mappo/smax.py --seed 1`

For five units of random types against five:
`--map smacv2_5_units`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/mappo-smax-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`. The win rate is `env_runners/win_rate`.

Every runner compiles the game when it starts, which takes seconds. With the environment variable
JAX_COMPILATION_CACHE_DIR set to a folder, later starts read it from there.

Results to expect
-----------------
All agents share one reward: up to 1 for damage, and 1 for the victory.

map              steps   seeds   win rate at first   last 100k
3m               1M      1       0.00                0.75
smacv2_5_units   2M      1       0.00                0.67
"""

from rllib_hetero import MAPPOConfig
from rllib_hetero.envs.smax import MAPS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--map", choices=list(MAPS), default="3m")


def make_config(args):
    return (
        MAPPOConfig()
        .environment("smax", env_config={"map": args.map})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=20)
        .rl_module(model_config={"hidden_sizes": [128, 128]})
        .training(
            lr=5e-4,
            train_batch_size_per_learner=4000,
            minibatch_size=None,
            num_epochs=5,
            clip_param=0.2,
            entropy_coeff=0.01,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=1_000_000)
