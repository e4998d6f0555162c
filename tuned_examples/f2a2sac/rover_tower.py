"""F2A2SAC on rover tower: towers tell rovers where to drive.

Every agent learns for itself, from its own rewards, and exchanges the attention of its critics
with the others. Here all agents live in one process, which is the fastest on a small machine;
`--agents-per-learner 1` gives each a process of its own, with the same results.

How to run this script
----------------------
`python tuned_examples/f2a2sac/rover_tower.py --seed 1`

For another number of pairs, or the treasure game of the same paper:
`--pairs 2`, `--scenario treasure_collection`

The run's folder (`results/f2a2sac-rover_tower-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
Team return is the sum over the agents; the paper gives the mean. Random actions reach a mean of
about -10. These settings are the paper's, and have not been run to the end. With smaller
networks and minibatches two pairs reach a mean of 104 within 150,000 steps, and four pairs 56:
`tuned_examples/f2a2_comparison.py`.
"""

from rllib_hetero import F2A2SACConfig
from rllib_hetero.envs.cooperative_mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="rover_tower")
parser.add_argument("--pairs", type=int, default=4, help="of rover tower")
parser.add_argument("--topology", choices=["full", "ring", "star", "none"], default="full")
parser.add_argument("--agents-per-learner", type=int, default=None)


def make_config(args):
    game = {"scenario": args.scenario}
    if args.scenario == "rover_tower":
        game["num_pairs"] = args.pairs
    return (
        F2A2SACConfig()
        .environment("cooperative_mpe", env_config=game)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=12, rollout_fragment_length=25)
        .learners(agents_per_learner=args.agents_per_learner)
        .consensus(topology=args.topology)
        .rl_module(model_config={"hidden_sizes": [128, 128], "attention_size": 128})
        .training(
            lr=1e-3,
            critic_lr=1e-3,
            gamma=0.99,
            tau=0.005,
            standardize_rewards=True,
            train_batch_size_per_learner=1024,
            training_intensity=40.96,
            temperature=0.01,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=300_000)
