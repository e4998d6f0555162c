"""IQL on the cooperative particle environments (MPE), with EPyMARL's settings.

Each agent learns the values of its own actions, as if it were alone. Actions are discrete. The
settings are translated from episodes into environment steps.

How to run this script
----------------------
`python tuned_examples/iql/mpe_simple_spread.py --seed 1`

For another scenario:
`--scenario simple_speaker_listener`

The run's folder (`results/iql-simple_spread-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.
"""

from rllib_hetero import IQLConfig
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="simple_spread")


def make_config(args):
    return (
        IQLConfig()
        .environment("mpe", env_config={"scenario": args.scenario, "continuous_actions": False})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=25)
        .rl_module(model_config={"hidden_sizes": [128], "recurrent": "gru", "max_seq_len": 25})
        .training(
            lr=3e-4,
            gamma=0.99,
            epsilon=[[0, 1.0], [200_000, 0.05]],
            target_network_update_freq=200,
            train_batch_size_per_learner=800,
            training_intensity=32,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=300_000)
