"""HAPPO on Multi-Agent MuJoCo's HalfCheetah, one agent for each of the six joints.

There is no published setting for HAPPO on 6x1; this one follows those for its neighbour 2x3.

How to run this script
----------------------
`python tuned_examples/happo/mamujoco_halfcheetah_6x1.py --seed 1`

For two agents of three joints (one leg each):
`--agent-conf 2x3`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-halfcheetah-6x1-s1/`, or `--out`) holds `progress.csv`,
`curve.png`, `run.json` and `checkpoint/`.

Results to expect
-----------------
All agents share one reward, counted once.

agent_conf   steps   seeds   first    last 100k
6x1          1M      1       -106     1078
6x1          3M      1       -119     3604
2x3          1M      1       -130     1085
"""

from rllib_hetero import HAPPOConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--agent-conf", choices=["6x1", "2x3"], default="6x1")


def make_config(args):
    return (
        HAPPOConfig()
        .environment(
            "mamujoco",
            env_config={
                "scenario": "HalfCheetah",
                "agent_conf": args.agent_conf,
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
    run_example(make_config(args), args, env_steps=1_000_000, demo_episodes=10)
