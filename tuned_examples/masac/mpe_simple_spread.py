"""MASAC on the cooperative particle environments (MPE).

Stochastic policies climb a joint Q and are paid for their entropy, all at once: the rival of
HASAC, with the same settings.

How to run this script
----------------------
`python tuned_examples/masac/mpe_simple_spread.py --seed 1`

For another scenario or discrete actions:
`--scenario simple_reference`, `--scenario simple_speaker_listener`, `--discrete`

The run's folder (`results/masac-simple_spread-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
docs/results/README.md, "Off-policy algorithms on MPE".
"""

from rllib_hetero import MASACConfig
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="simple_spread")
parser.add_argument("--discrete", action="store_true", help="discrete instead of Box actions")


def make_config(args):
    return (
        MASACConfig()
        .environment(
            "mpe",
            env_config={"scenario": args.scenario, "continuous_actions": not args.discrete},
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20, rollout_fragment_length=50)
        .rl_module(model_config={"hidden_sizes": [256, 256]})
        .training(
            lr=5e-4,
            critic_lr=5e-4,
            gamma=0.99,
            n_step=20,
            tau=0.005,
            initial_alpha=1.0,
            alpha_lr=3e-4,
            # With the default, 0.98 of the uniform policy's entropy, the temperature never stops
            # rising: docs/results/README.md. Box actions have a target of their own.
            target_entropy_fraction=0.3,
            train_batch_size_per_learner=1000,
            training_intensity=50,
            num_steps_sampled_before_learning_starts=10_000,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=100_000)
