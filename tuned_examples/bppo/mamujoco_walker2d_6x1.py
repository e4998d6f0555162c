"""BPPO on Multi-Agent MuJoCo's Walker2d, one agent for each of the six joints.

The settings of Li et al. (AAAI 2024), Tables 3 to 7.

How to run this script
----------------------
`python tuned_examples/bppo/mamujoco_walker2d_6x1.py --seed 1`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/bppo-walker2d-6x1-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
All agents share one reward, counted once.
See "BPPO and its baselines" in docs/results/README.md, which
`python tuned_examples/bppo_comparison.py --tasks walker2d_6x1` makes.
"""

from rllib_hetero import BPPOConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()


def make_config(args):
    return (
        BPPOConfig()
        .environment(
            "mamujoco",
            env_config={
                "scenario": "Walker2d",
                "agent_conf": "6x1",
                "agent_obsk": 0,  # every agent observes its own joints
            },
        )
        .env_runners(num_env_runners=2, num_envs_per_env_runner=20)
        .rl_module(model_config={"hidden_sizes": [64, 64, 64]})
        .training(
            lr=3e-4,
            train_batch_size_per_learner=4000,
            minibatch_size=None,
            num_epochs=5,
            clip_param=0.2,
            entropy_coeff=0.0,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=2_000_000, demo_episodes=10)
