"""BPPO on the cooperative particle environments (MPE).

Agents act one after another and see the actions before their own. They improve in reverse: each
hears from those that acted after it how they would have liked its action to be.

How to run this script
----------------------
`python tuned_examples/bppo/mpe_simple_spread.py --seed 1`

For another scenario or discrete actions:
`--scenario simple_reference`, `--scenario simple_speaker_listener`, `--discrete`

For a short training, a video of the trained team, and a comparison with random actions:
`--demo`

The run's folder (`results/bppo-simple_spread-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
Team return is the sum over agents.
See "BPPO and its baselines" in docs/results/README.md, which
`python tuned_examples/bppo_comparison.py --tasks simple_spread` makes.
"""

from rllib_hetero import BPPOConfig
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="simple_spread")
parser.add_argument("--discrete", action="store_true", help="discrete instead of Box actions")


def make_config(args):
    return (
        BPPOConfig()
        .environment(
            "mpe",
            env_config={"scenario": args.scenario, "continuous_actions": not args.discrete},
        )
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
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
    run_example(make_config(args), args, env_steps=1_000_000)
