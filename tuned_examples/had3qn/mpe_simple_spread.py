"""HAD3QN on the cooperative particle environments (MPE), with the settings of its paper's Table 8.

A dueling Q-network for each agent predicts what a joint one says of its actions beside the best
ones of the agents before it. Actions are discrete.

How to run this script
----------------------
`python tuned_examples/had3qn/mpe_simple_spread.py --seed 1`

For another scenario, or the targets of the authors' code:
`--scenario simple_speaker_listener`, `--fitted-actions greedy`

The run's folder (`results/had3qn-simple_spread-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
Team return is the sum over agents; means of 10k steps, the first of which are random.

scenario        steps   seed   first    second   eighth
simple_spread   80k     1      -81.5    -107.3   -61.8
"""

from rllib_hetero import HAD3QNConfig
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="simple_spread")
parser.add_argument(
    "--fitted-actions",
    choices=HAD3QNConfig.FITTED_ACTIONS,
    default="replayed",
    help="paper: replayed",
)


def make_config(args):
    return (
        HAD3QNConfig()
        .environment("mpe", env_config={"scenario": args.scenario, "continuous_actions": False})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20, rollout_fragment_length=50)
        .rl_module(model_config={"hidden_sizes": [128, 128], "dueling_hidden_sizes": [128]})
        .training(
            lr=5e-4,
            critic_lr=1e-3,
            gamma=0.95,
            n_step=1,
            epsilon=0.05,
            tau=0.005,
            train_batch_size_per_learner=1000,
            training_intensity=50,
            num_steps_sampled_before_learning_starts=10_000,
            replay_buffer_config={"capacity": 1_000_000},
            fitted_actions=args.fitted_actions,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=100_000)
