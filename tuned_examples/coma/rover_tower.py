"""COMA on rover tower: towers tell rovers where to drive.

The critic gives each agent the values of all its actions, beside what the others did. Agents
learn from their own rewards, as in the papers that compare on this game.

How to run this script
----------------------
`python tuned_examples/coma/rover_tower.py --seed 1`

For another number of pairs:
`--pairs 2`

The run's folder (`results/coma-rover_tower-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
Team return is the sum over the agents; the papers give the mean. Random actions reach a mean of
about -10.
"""

from rllib_hetero import COMAConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--pairs", type=int, default=4)


def make_config(args):
    return (
        COMAConfig()
        .environment(
            "cooperative_mpe", env_config={"scenario": "rover_tower", "num_pairs": args.pairs}
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=12)
        .rl_module(model_config={"hidden_sizes": [128, 128]})
        .training(
            lr=1e-3,
            critic_lr=1e-3,
            gamma=0.99,
            lambda_=0.8,
            individual_rewards=True,
            train_batch_size_per_learner=1200,
            critic_num_epochs=20,
            target_network_update_freq=200,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=300_000)
