"""A network of one's own: an actor that takes the landmarks it sees as a set.

In `simple_spread` an agent sees three landmarks, in an order that means nothing. The network below
sends each through the same layers and keeps the largest features, so that it need not learn this
six times over. It is a plain torch module; an RLModule of a few lines brings it to the library.
Runners, learner, critic, checkpoints and evaluation are the library's, and `config.validate()`
tells what a module lacks.

How to run this script
----------------------
`python examples/own_network.py --seed 1`

Results to expect
-----------------
simple_spread, team return (the sum over agents), seed 1, 300,000 steps: -69.1 in the first
iteration, -56.7 over the last 100,000 steps (commit dc0a325). The library's own actors, with the
same settings and seed: -69.4 and -62.5 (a working copy on top of 67aa998). One seed says little.
The returns of both are kept: docs/results/data/own-network*.csv.
"""

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from rllib_hetero import HAPPOConfig
from rllib_hetero.reporting.example import example_parser, run_example

LANDMARKS = slice(4, 10)  # x and y of three, behind the agent's own velocity and place


class SetNetwork(nn.Module):
    """From observations (..., 18) to features (..., 64)."""

    def __init__(self):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 32))
        self.rest = nn.Sequential(
            nn.Linear(12 + 32, 128), nn.ReLU(), nn.LayerNorm(128),
            nn.Linear(128, 64), nn.ReLU(), nn.LayerNorm(64),
        )  # fmt: skip

    def forward(self, x):
        landmarks = self.each(x[..., LANDMARKS].unflatten(-1, (3, 2))).amax(-2)
        return self.rest(torch.cat([x[..., :4], x[..., 10:], landmarks], -1))


class SetActor(TorchRLModule):
    """For Box actions (k,): k means, then k log standard deviations."""

    def setup(self):
        (k,) = self.action_space.shape
        self.body, self.mean = SetNetwork(), nn.Linear(64, k)
        nn.init.orthogonal_(self.mean.weight, 0.01)
        self.log_std = nn.Parameter(torch.full((k,), self.model_config["log_std"]))

    def _forward(self, batch, **kwargs):
        mean = self.mean(self.body(batch[Columns.OBS]))
        return {Columns.ACTION_DIST_INPUTS: torch.cat([mean, self.log_std.expand_as(mean)], -1)}


parser = example_parser()


def make_config(args):
    return (
        HAPPOConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .rl_module(
            rl_module_spec=RLModuleSpec(module_class=SetActor, model_config={"log_std": -1.0})
        )
    )


if __name__ == "__main__":
    args = parser.parse_args()
    run_example(make_config(args), args, env_steps=300_000)
