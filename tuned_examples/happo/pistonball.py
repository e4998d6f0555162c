"""HAPPO on PettingZoo's pistonball: twenty pistons that see pictures roll a ball to the left.

Each piston sees itself, its two neighbours and what is above them; wrappers of `supersuit` make
that one colour, small, and two frames of it. All share one policy, and are not told who they are:
the same is to be done everywhere. HAPPO then updates the one network piston after piston, which is
an ablation; MAPPO, the usual choice with a shared policy, once for all.

How to run this script
----------------------
`pip install -e '.[butterfly,supersuit]'`, then
`python tuned_examples/happo/pistonball.py --seed 1`

For its rival:
`--algo MAPPO`

For fewer pistons, on a narrower field:
`--pistons 8`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder holds `progress.csv`, `curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
The team's return is up to 100 for the way to the wall, less 0.1 for each step. Seed 1, in one
process: MAPPO has 76.6 after 5,000 steps and 91.5 after 10,000; HAPPO, which updates the one
network twenty times, 21.9. An iteration of 1000 steps, 20,000 pictures, took MAPPO 30 seconds of
processor time, two thirds of them for sampling. docs/environments/pettingzoo.md has the film.
"""

from ray.tune.registry import register_env

from rllib_hetero import ALGORITHMS, PettingZooTeamEnv
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser(algo="HAPPO")
parser.add_argument("--pistons", type=int, default=20, help="agents")


def make_env(env_config):
    """The game with small pictures."""
    from pettingzoo.butterfly import pistonball_v6
    from supersuit import color_reduction_v0, frame_stack_v1, resize_v1

    # Without a render mode the game draws nothing, not even what the agents see.
    env = pistonball_v6.parallel_env(**{"render_mode": "rgb_array"} | dict(env_config))
    env = color_reduction_v0(env, "R")  # in which ball and pistons are dark, the rest is white
    env = frame_stack_v1(resize_v1(env, x_size=12, y_size=40), 2)
    # What the critic sees is what all agents see: the game's own state is the whole screen.
    return PettingZooTeamEnv(env, reward_scheme="shared", state_space=None)


def make_config(args):
    register_env("pistonball", make_env)
    return (
        ALGORITHMS[args.algo]
        .get_default_config()
        .environment("pistonball", env_config={"n_pistons": args.pistons, "continuous": False})
        .multi_agent(parameter_sharing="full", agent_index=False)
        .env_runners(num_env_runners=2, num_envs_per_env_runner=4)
        .rl_module(
            model_config={
                "conv_filters": [[8, 4, 2], [16, 4, 2]],
                "conv_features": 64,
                "hidden_sizes": [64],
            }
        )
        .training(
            lr=1e-3,
            train_batch_size_per_learner=1000,
            minibatch_size=250,
            num_epochs=5,
            clip_param=0.2,
            entropy_coeff=0.01,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=20_000)
