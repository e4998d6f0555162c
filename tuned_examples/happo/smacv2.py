"""HAPPO on SMACv2: battles of StarCraft II with other units in other places every time.

Settings are those of the HARL paper (Zhong et al., JMLR 2024, Table 21): policies with a memory,
small steps (clip 0.05), batches of 3200 steps. Every agent has a policy of its own.

It needs StarCraft II, the maps and three packages: see `docs/environments/smac.md`.

How to run this script
----------------------
`SC2PATH=~/StarCraftII python tuned_examples/happo/smacv2.py --seed 1`

For another task, or one of SMAC, the first version:
`--map zerg_10_vs_11`, `--map 3s5z`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-smacv2-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`. The win rate is `env_runners/win_rate`.

Results to expect
-----------------
Never run on StarCraft II by this library. The HARL paper reports, after 10 million steps, these
median win rates of HAPPO in percent, standard deviation in brackets:

terran_5_vs_5   protoss_5_vs_5   zerg_5_vs_5   zerg_10_vs_10   zerg_10_vs_11
57.5 (1.3)      57.5 (1.2)       42.5 (2.5)    28.4 (2.2)      16.2 (0.6)
"""

from rllib_hetero import HAPPOConfig
from rllib_hetero.envs.smac import SMAC_MAPS, SMACV2_MAPS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--map", choices=[*SMACV2_MAPS, *SMAC_MAPS], default="terran_5_vs_5")


def make_config(args):
    name = "smacv2" if args.map in SMACV2_MAPS else "smac"
    minibatches = 2 if args.map == "terran_5_vs_5" else 1
    return (
        HAPPOConfig()
        .environment(name, env_config={"map": args.map})
        # A call of sample() may have to start games, and wait for one that hangs.
        .env_runners(num_env_runners=4, num_envs_per_env_runner=5, sample_timeout_s=900)
        .fault_tolerance(
            restart_failed_sub_environments=True, delay_between_env_runner_restarts_s=5
        )
        .rl_module(model_config={"hidden_sizes": [64], "recurrent": "gru", "max_seq_len": 10})
        .training(
            lr=5e-4,
            train_batch_size_per_learner=3200,
            minibatch_size=3200 // minibatches,
            num_epochs=5,
            clip_param=0.05,
            entropy_coeff=0.01,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=10_000_000)
