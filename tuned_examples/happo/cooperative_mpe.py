"""HAPPO on the cooperative particle games of MAAC and F2A2.

In treasure collection, six hunters carry treasures to two banks. In rover tower, four towers tell
four rovers where to drive. Roles differ in what they observe; every agent has a policy of its
own.

How to run this script
----------------------
`python tuned_examples/happo/cooperative_mpe.py --seed 1`

For the other game:
`--scenario rover_tower`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-treasure_collection-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
Team return is the sum over the 8 agents; the papers give the mean, an eighth of it. No long
training has been made with these settings. Random actions reach

scenario              team return   mean over agents
treasure_collection   -17           -2.1
rover_tower           -57           -7.1
"""

from rllib_hetero import HAPPOConfig
from rllib_hetero.envs.cooperative_mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="treasure_collection")


def make_config(args):
    return (
        HAPPOConfig()
        .environment("cooperative_mpe", env_config={"scenario": args.scenario})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=50)
        .rl_module(model_config={"hidden_sizes": [128, 128]})
        .training(
            lr=5e-4,
            train_batch_size_per_learner=10_000,
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
    run_example(make_config(args), args, env_steps=2_000_000)
