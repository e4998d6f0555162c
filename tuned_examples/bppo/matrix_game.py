"""BPPO on two matrix games whose best joint action lies beside costly mistakes.

Agents act one after another and see the actions before their own. They improve in reverse: each
hears from those that acted after it how they would have liked its action to be.

How to run this script
----------------------
`python tuned_examples/bppo/matrix_game.py --seed 1`

For the game "penalty", whose mistakes cost 100 or what is given:
`--game penalty`, `--game penalty --penalty -50`

The run's folder (`results/bppo-climbing-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
The best return is 11 in "climbing" and 10 in "penalty".
See "BPPO and its baselines" in docs/results/README.md, which
`python tuned_examples/bppo_comparison.py` makes.
"""

from rllib_hetero import BPPOConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--game", choices=["climbing", "penalty"], default="climbing")
parser.add_argument("--penalty", type=float, default=-100.0, help="of the game penalty, at most 0")


def make_config(args):
    game = {"game": args.game}
    if args.game == "penalty":
        game["penalty"] = args.penalty
    return (
        BPPOConfig()
        .environment("matrix_game", env_config=game)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=50)
        .rl_module(model_config={"hidden_sizes": [64, 64], "layer_norm": "all"})
        .training(
            lr=5e-4,
            train_batch_size_per_learner=10_000,
            minibatch_size=None,
            num_epochs=15,
            clip_param=0.2,
            entropy_coeff=0.01,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=1_000_000)
