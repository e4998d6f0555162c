"""F2A2ISAC on MAgent's battle: one policy, learned by many agents that agree.

Each agent knows what it sees itself, and learns from its own rewards. Blocks of agents make one
member, with one copy of actor and critic, which it exchanges with the other members.

How to run this script
----------------------
`python tuned_examples/f2a2isac/battle.py --seed 1`

`--map-size` decides how many agents there are: 20 has 12 in each team, 40 has 64, 80 has 256.
`--agents-per-module` decides how many of them are one member.

The run's folder (`results/f2a2isac-battle-s1/`, or `--out`) holds `progress.csv`, `curve.png`,
`run.json` and `checkpoint/`. The policies of a checkpoint act on maps of any size:
`python examples/play_battles.py results/f2a2isac-battle-s1/checkpoint`.

An attack costs 0.01, as in `tuned_examples/happo/magent.py`, and not magent2's 0.1. The rate of the
policies is the paper's, that of the critics five times as high, and the temperature 0.01: with the
paper's 0.08 policies stayed as good as uniform, and with 5e-4 for both they stopped fighting later.

Results to expect
-----------------
docs/algorithms/f2a2isac.md, "Results".
"""

from rllib_hetero import F2A2ISACConfig
from rllib_hetero.reporting.example import example_parser, run_example

parser = example_parser()
parser.add_argument("--map-size", type=int, default=20)
parser.add_argument("--agents-per-module", type=int, default=4)
parser.add_argument("--topology", choices=["full", "ring", "star", "none"], default="ring")
parser.add_argument("--agents-per-learner", type=int, default=None)


def make_config(args):
    return (
        F2A2ISACConfig()
        .environment(
            "magent",
            env_config={
                "scenario": "battle",
                "map_size": args.map_size,
                "state": None,
                "attack_penalty": -0.01,
            },
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4, rollout_fragment_length=25)
        .learners(agents_per_learner=args.agents_per_learner)
        .consensus(topology=args.topology)
        .rl_module(model_config={"hidden_sizes": [128, 128]})
        .training(
            agents_per_module=args.agents_per_module,
            lr=1e-4,
            critic_lr=5e-4,
            gamma=0.95,
            temperature=0.01,
            train_batch_size_per_learner=128,
            training_intensity=5.12,
            num_steps_sampled_before_learning_starts=1000,
            replay_buffer_config={"capacity": 5000},
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=50_000)
