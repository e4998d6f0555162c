"""HAPPO on two ALOHA arms: one lifts a box, the other takes it over and brings it to a target.

Each arm has a policy of its own, and observes itself and the box. The discount is that of MuJoCo
Playground's own settings for the task, which train one policy for both arms with PPO for 100M
steps.

How to run this script
----------------------
`python tuned_examples/happo/bimanual.py --seed 1`

For the other task, a peg and a socket:
`--task AlohaSinglePegInsertion`

For more env runners, or several trials under Tune, logged to WandB:
`--num-env-runners 8`
`--tune --num-samples 3 --wandb-key [your key] --wandb-project [project]`

The run's folder (`results/happo-bimanual-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`. Beside the return, look at `env_runners/picked` and
`env_runners/success_rate`.

Results to expect
-----------------
The reward is shared, and counted once. No success was reached yet: in 148k steps, the return
of the hand-over went from 0.008 over 0.003 to 0.020. An arm that lifts the box has 0.09.
"""

from rllib_hetero import HAPPOConfig
from rllib_hetero.envs.bimanual import TASKS
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--task", choices=list(TASKS), default="AlohaHandOver")


def make_config(args):
    return (
        HAPPOConfig()
        .environment("bimanual", env_config={"task": args.task})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=8)
        .rl_module(model_config={"hidden_sizes": [128, 128]})
        .training(
            lr=5e-4,
            train_batch_size_per_learner=4000,
            minibatch_size=None,
            num_epochs=8,
            clip_param=0.2,
            entropy_coeff=0.0,
            gamma=0.97,
            lambda_=0.95,
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=2_000_000)
