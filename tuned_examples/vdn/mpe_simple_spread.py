"""VDN on the cooperative particle environments (MPE).

The agents' own action values add up to the team's, and are learned through the sum.

Actions are discrete. The settings are the algorithm's defaults, those of EPyMARL in environment
steps, but for TD(0.6) and soft updates of the targets: with one-step targets that are replaced
every 200 updates it forgets again (docs/algorithms/vdn.md, Results).

How to run this script
----------------------
`python tuned_examples/vdn/mpe_simple_spread.py --seed 1`

For another scenario, a memory, or one-step targets:
`--scenario simple_speaker_listener`, `--recurrent gru`, `--td-lambda 0`

The run's folder (`results/vdn-simple_spread-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.
"""

from rllib_hetero import VDNConfig
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="simple_spread")
parser.add_argument("--recurrent", choices=["gru", "lstm"], help="default: without a memory")
parser.add_argument("--td-lambda", type=float, default=0.6, help="0 is one-step, as EPyMARL's")


def make_config(args):
    return (
        VDNConfig()
        .environment("mpe", env_config={"scenario": args.scenario, "continuous_actions": False})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=25)
        .rl_module(model_config={"recurrent": args.recurrent, "max_seq_len": 25})
        .training(
            lr=5e-4,
            gamma=0.99,
            epsilon=[[0, 1.0], [50_000, 0.05]],
            target_network_update_freq=1,
            tau=0.01,
            lambda_=args.td_lambda,
            train_batch_size_per_learner=800,
            training_intensity=32,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=300_000)
