"""HAPPO on PettingZoo's knights-archers-zombies: two archers and two knights hold a line.

An environment of PettingZoo's behind a wrapper of `supersuit`: what an agent sees, a table of all
that is on the field, is made flat. Every agent has its own policy, and dies by a zombie's touch.

How to run this script
----------------------
`pip install -e '.[butterfly,supersuit]'`, then
`python tuned_examples/happo/knights_archers_zombies.py --seed 1`

For its rival, whose agents improve all at once and share one policy:
`--algo MAPPO`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder holds `progress.csv`, `curve.png`, `run.json` and `checkpoint/`. The game draws its
zombies from a generator that no seed reaches: runs differ, whatever their seed.

Results to expect
-----------------
Team return (a point for each zombie), two runs of seed 1, 252,000 steps: 2.4 and 2.1 over the first
20,000 steps, 15.3 and 8.4 over the last 50,000. In one process the second took 10 minutes.
"""

from ray.tune.registry import register_env

from rllib_hetero import ALGORITHMS, PettingZooTeamEnv
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser(algo="HAPPO")


def make_env(env_config):
    """The game with its table made flat."""
    from pettingzoo.butterfly import knights_archers_zombies_v11
    from supersuit import flatten_v0

    env = knights_archers_zombies_v11.parallel_env(**env_config)
    # What the critic sees is what all agents see: the game's own state is a table, too.
    return PettingZooTeamEnv(flatten_v0(env), state_space=None)


def make_config(args):
    register_env("knights_archers_zombies", make_env)
    return (
        ALGORITHMS[args.algo]
        .get_default_config()
        .environment("knights_archers_zombies", env_config={"max_cycles": 900})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=8)
        .rl_module(model_config={"hidden_sizes": [128, 128]})
        .training(
            lr=5e-4,
            train_batch_size_per_learner=4000,
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
    run_example(make_config(args), args, env_steps=250_000)
