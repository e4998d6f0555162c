"""HAPPO on Multi-Agent MuJoCo's Walker2d, two agents of three joints (one leg each).

Settings are those of the HARL authors: smaller steps than elsewhere, two minibatches, and a
learning rate that falls to 0 over 10M steps.

How to run this script
----------------------
`python tuned_examples/happo/mamujoco_walker2d_2x3.py --seed 1`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-walker2d-2x3-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`.

Results to expect
-----------------
All agents share one reward, counted once.

steps   seeds   first    last 100k
1M      1       8.6      657
3M      1                2192
"""

from rllib_hetero import HAPPOConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()


def make_config(args):
    return (
        HAPPOConfig()
        .environment(
            "mamujoco",
            env_config={
                "scenario": "Walker2d",
                "agent_conf": "2x3",
                "agent_obsk": None,  # every agent observes the whole state
            },
        )
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .rl_module(model_config={"hidden_sizes": [128, 128, 128]})
        .training(
            lr=[[0, 1e-3], [10_000_000, 0.0]],
            train_batch_size_per_learner=4000,
            minibatch_size=2000,
            num_epochs=5,
            clip_param=0.05,
            entropy_coeff=0.0,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=3_000_000, demo_episodes=10)
