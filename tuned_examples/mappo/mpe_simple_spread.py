"""MAPPO on the cooperative particle environments (MPE).

The rival of HAPPO: all agents improve at once, and share one policy where their spaces are
equal. Otherwise the same settings as tuned_examples/happo/mpe_simple_spread.py.

How to run this script
----------------------
`python tuned_examples/mappo/mpe_simple_spread.py --seed 1`

For another scenario or discrete actions:
`--scenario simple_reference`, `--scenario simple_speaker_listener`, `--discrete`

For a short training, a video of the trained team, and a comparison with random actions:
`--demo`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/mappo-simple_spread-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
Team return is the sum over agents.

scenario                  actions      steps   seeds     first   last 100k
simple_spread             continuous   1M      1, 2, 3   -71.4   -58.6 ± 0.3
simple_speaker_listener   continuous   300k    1         -57.9   -31.2
simple_speaker_listener   discrete     300k    1         -71.7   -31.7
simple_reference          continuous   300k    1         -52.1   -38.2
simple_reference          discrete     300k    1         -57.2   -37.3
"""

from rllib_hetero import MAPPOConfig
from rllib_hetero.envs.mpe import SCENARIOS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--scenario", choices=list(SCENARIOS), default="simple_spread")
parser.add_argument("--discrete", action="store_true", help="discrete instead of Box actions")


def make_config(args):
    return (
        MAPPOConfig()
        .environment(
            "mpe",
            env_config={"scenario": args.scenario, "continuous_actions": not args.discrete},
        )
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        # LayerNorm on every input, as in HARL: the speaker's has three numbers.
        .rl_module(model_config={"hidden_sizes": [128, 128], "layer_norm": "all"})
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
