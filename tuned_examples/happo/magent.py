"""HAPPO with one shared policy in MAgent2's battle, against random opponents.

All agents of our team share a policy. With one policy, HAPPO's sequence of updates is a single
update: this is MAPPO with HAPPO's defaults. Agents are not told who they are, so that what 12
have learnt can be used by hundreds (see docs/environments/magent.md).

An attack costs 0.01 here, not magent2's 0.1: at that price teams learnt to attack nobody, before
they had hit enough enemies to find out what a hit is worth.

How to run this script
----------------------
`python tuned_examples/happo/magent.py --seed 1`

For larger teams, 81 on a map of 45 and 256 on one of 80:
`--map-size 45`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-battle-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`.

Results to expect
-----------------
One run, seed 1, 12 agents in each team, a battle being 400 steps:

| steps | return | win rate | enemies left |
|---|---|---|---|
| 0 | -31.6 | 0 | 12 |
| 16,000 | -25.0 | 0.25 | 11.6 |
| 38,400 | -4.7 | 1 | 10.1 |
| 57,600 | 25.3 | 1 | 3.8 |
| 72,000 | 36.2 | 1 | 1.0 |
| 91,200 | 37.1 | 1 | 1.3 |

The policy of 12 agents after 99,200 steps, put into larger teams as it is, wins their battles, too:
with 64 a side 10.8 enemies are left after 400 steps, with 256 a side 50, and with 625 a side 263.
"""

from rllib_hetero import HAPPOConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--map-size", type=int, default=20, help="20 is 12 agents in each team")


def make_config(args):
    return (
        HAPPOConfig()
        .environment(
            "magent",
            env_config={"scenario": "battle", "map_size": args.map_size, "attack_penalty": -0.01},
        )
        .multi_agent(parameter_sharing="full", agent_index=False)
        .env_runners(num_env_runners=2, num_envs_per_env_runner=4)
        .rl_module(model_config={"hidden_sizes": [128, 128]})
        .training(
            lr=5e-4,
            # A step of a team of 12 is 12 rows of 845 numbers.
            train_batch_size_per_learner=1600,
            minibatch_size=None,
            num_epochs=5,
            clip_param=0.2,
            entropy_coeff=0.01,
            gamma=0.95,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=100_000)
