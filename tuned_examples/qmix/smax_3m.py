"""QMIX on SMAX, battles like the StarCraft Multi-Agent Challenge's, in the manner of pymarl2.

Recurrent agents, TD(lambda), minibatches of 64 battles. Three marines share one network.

The game's state holds positions on the map, in units of it. What makes the mixer's weights reads
them in units of their running deviation (`input_norm`); as they are, Q_tot begins at about 28 in a
game that pays 2 at most, and drifts from there.

How to run this script
----------------------
`python tuned_examples/qmix/smax_3m.py --seed 1`

For another battle:
`--map smacv2_5_units`

The run's folder (`results/qmix-smax_3m-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`. The win rate is `env_runners/win_rate`.

Every runner compiles the game when it starts, which takes seconds. With the environment variable
JAX_COMPILATION_CACHE_DIR set to a folder, later starts read it from there.

Results to expect
-----------------
map   steps   seed   win rate at first   last 100k   greedy
3m    500k    1      0.00                0.68        0.79
"""

from rllib_hetero import QMIXConfig
from rllib_hetero.envs.smax import MAPS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--map", choices=list(MAPS), default="3m")


def make_config(args):
    return (
        QMIXConfig()
        .environment("smax", env_config={"map": args.map})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20, rollout_fragment_length=50)
        .rl_module(model_config={"recurrent": "gru", "max_seq_len": 50, "input_norm": True})
        .training(
            lr=1e-3,
            gamma=0.99,
            epsilon=[[0, 1.0], [100_000, 0.05]],
            tau=0.01,
            target_network_update_freq=1,
            lambda_=0.6,
            train_batch_size_per_learner=3200,
            training_intensity=16,
            num_steps_sampled_before_learning_starts=3200,
            replay_buffer_config={"capacity": 250_000},
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=1_000_000)
