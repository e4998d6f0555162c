"""MAAC on the cooperative particle games that its authors made for it.

In rover tower, towers tell rovers where to drive; in treasure collection, hunters carry treasures
to banks. Each agent has a policy of its own, and learns from its own rewards.

How to run this script
----------------------
`python tuned_examples/maac/rover_tower.py --seed 1`

For another number of pairs, or the other game:
`--pairs 2`, `--scenario treasure_collection`

The run's folder (`results/maac-rover_tower-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
Team return is the sum over the agents; the papers give the mean. Random actions reach a mean of
about -10 in rover tower.
"""

from rllib_hetero import MAACConfig
from rllib_hetero.envs.cooperative_mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="rover_tower")
parser.add_argument("--pairs", type=int, default=4, help="of rover tower")


def make_config(args):
    game = {"scenario": args.scenario}
    if args.scenario == "rover_tower":
        game["num_pairs"] = args.pairs
    return (
        MAACConfig()
        .environment("cooperative_mpe", env_config=game)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=12, rollout_fragment_length=25)
        .rl_module(model_config={"hidden_sizes": [128, 128], "attention_size": 128})
        .training(
            lr=1e-3,
            critic_lr=1e-3,
            gamma=0.99,
            tau=0.005,
            alpha=0.01,
            train_batch_size_per_learner=1024,
            training_intensity=40.96,
            num_steps_sampled_before_learning_starts=1024,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=300_000)
