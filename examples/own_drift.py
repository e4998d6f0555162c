"""A mirror-learning method of one's own: HARL's template with another drift.

What a change of policy costs, the drift, is here a multiple of its Kullback-Leibler divergence.
That is never negative, and zero with zero gradient where the policy has not changed, which is
all that HARL's Definition 10 asks for: the template's guarantees hold for it. Order, correction,
critic, runners, checkpoints and several learners are the library's.

How to run this script
----------------------
`python examples/own_drift.py --seed 1`

For a larger or smaller price of change: `--kl-coeff 3`

Results to expect
-----------------
simple_spread, team return (the sum over agents), seed 1, 300,000 steps: -69.4 in the first
iteration, -62.0 over the last 100,000 steps.
"""

from rllib_hetero import HAA2CConfig, SequentialLearner
from rllib_hetero.reporting.example import example_parser, run_example


class KLPenaltyLearner(SequentialLearner):
    """Template 2 of HARL with the drift c * KL(old || new)."""

    def drift(self, change, config):
        kl = change.dist.kl(change.old_inputs, change.inputs)
        return config.learner_config_dict["kl_coeff"] * kl


parser = example_parser()
parser.add_argument("--kl-coeff", type=float, default=1.0, help="price of a change of policy")


def make_config(args):
    return (
        HAA2CConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .learners(learner_class=KLPenaltyLearner, learner_config_dict={"kl_coeff": args.kl_coeff})
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=300_000)
