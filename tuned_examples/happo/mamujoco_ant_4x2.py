"""HAPPO on Multi-Agent MuJoCo's Ant, four agents of two joints (one leg each).

Settings are those of the HARL authors.

How to run this script
----------------------
`python tuned_examples/happo/mamujoco_ant_4x2.py --seed 1`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-ant-4x2-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`.

Results to expect
-----------------
All agents share one reward, counted once.

steps   seeds   first    last 100k
1M      1       27.6     693
3M      1                2581
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
                "scenario": "Ant",
                "agent_conf": "4x2",
                "agent_obsk": None,  # every agent observes the whole state
            },
        )
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .rl_module(model_config={"hidden_sizes": [128, 128, 128]})
        .training(
            lr=5e-4,
            train_batch_size_per_learner=4000,
            minibatch_size=None,
            num_epochs=5,
            clip_param=0.1,
            entropy_coeff=0.0,
            gamma=0.99,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=3_000_000, demo_episodes=10)
