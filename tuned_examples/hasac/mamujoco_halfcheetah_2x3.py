"""HASAC on Multi-Agent MuJoCo's HalfCheetah, one agent for each leg.

Settings as HASAC's authors have them.

How to run this script
----------------------
`python tuned_examples/hasac/mamujoco_halfcheetah_2x3.py --seed 1`

The run's folder (`results/hasac-halfcheetah-2x3-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
docs/results/README.md, "HalfCheetah 2x3".
"""

from rllib_hetero import HASACConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()


def make_config(args):
    return (
        HASACConfig()
        .environment(
            "mamujoco",
            env_config={
                "scenario": "HalfCheetah",
                "agent_conf": "2x3",
                "agent_obsk": None,  # every agent observes the whole state
            },
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=10, rollout_fragment_length=50)
        .rl_module(model_config={"hidden_sizes": [256, 256]})
        .training(
            lr=1e-3,
            critic_lr=1e-3,
            gamma=0.99,
            n_step=10,
            tau=0.005,
            initial_alpha=1.0,
            alpha_lr=3e-4,
            train_batch_size_per_learner=1000,
            training_intensity=100,
            num_steps_sampled_before_learning_starts=10_000,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=1_000_000, demo_episodes=10)
