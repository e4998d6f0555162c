"""HAPPO on Google Research Football's academy, one policy for each player.

Settings follow those of the HARL authors: 10,000 steps per batch, 15 epochs in two minibatches,
shared reward with checkpoints.

How to run this script
----------------------
The game has to be compiled once: `scripts/build_football_wheel.sh wheels python`. Then

`python tuned_examples/happo/football.py --seed 1`

For another scenario:
`--scenario academy_3_vs_1_with_keeper`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-academy_pass_and_shoot_with_keeper-s1/`, or `--out`) holds
`progress.csv`, `curve.png`, `run.json` and `checkpoint/`. The score rate is
`env_runners/score_rate`.

Results to expect
-----------------
An episode's return is 2 with a goal, and at most 1 without. HARL's paper reports these score rates,
in percent, after 25M steps (counterattack_hard: 50M):

scenario                                  HAPPO   MAPPO
academy_pass_and_shoot_with_keeper        96.93   94.92
academy_run_pass_and_shoot_with_keeper    77.30   76.83
academy_3_vs_1_with_keeper                94.74   88.03
academy_counterattack_easy                92.00   87.76
academy_counterattack_hard                88.14   77.38

No training of that length has been made here. The first scenario, without a GRU, one seed: a score
rate of 0 at first, 0.3 over the last 100k of 560k steps. The authors use a recurrent policy there:
`--recurrent`.
"""

from rllib_hetero import HAPPOConfig
from rllib_hetero.envs.football import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument(
    "--scenario", choices=list(SCENARIOS), default="academy_pass_and_shoot_with_keeper"
)
parser.add_argument("--recurrent", action="store_true", help="policies and critic with a GRU")


def make_config(args):
    model = {"hidden_sizes": [64, 64]}
    if args.recurrent:
        model |= {"recurrent": "gru", "critic_recurrent": "gru", "max_seq_len": 10}
    return (
        HAPPOConfig()
        .environment(
            "football",
            env_config={"scenario": args.scenario, "rewards": "scoring,checkpoints"},
        )
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .rl_module(model_config=model)
        .training(
            lr=5e-4,
            train_batch_size_per_learner=10_000,
            minibatch_size=5000,
            num_epochs=15,
            clip_param=0.2,
            entropy_coeff=0.01,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=25_000_000)
