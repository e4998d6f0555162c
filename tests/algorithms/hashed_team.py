"""A team whose environment lists its agents in the order of a set: another one in every process.

`main` is what a process does with it in `test_agent_order.py`.
"""

import json
import shutil
import tempfile

import ray
import runner_toys as toys
from runner_toys import ScriptedTeam

from rllib_hetero import MAPPO, MAPPOConfig

NAMES = ("north", "east", "south", "west")


class HashedTeam(ScriptedTeam):
    """What happens goes by the agents' names."""

    played: list = []  # actions by agent, of all steps

    def __init__(self, config=None):
        super().__init__({"agents": dict.fromkeys(NAMES, 4), "lengths": [5]})
        self.possible_agents = list(set(NAMES))

    def step(self, action_dict):
        self.played.append({a: [float(x) for x in u] for a, u in action_dict.items()})
        return super().step(action_dict)

    def reward(self, agent):
        return float(NAMES.index(agent) + self.last[agent])

    def _observation(self, agent):
        x = super()._observation(agent)
        x[:2] = 2, NAMES.index(agent) % 2  # two pairs, which only their index tells apart
        return x


def main(what, path):
    """Trains and saves, or restores; prints the agents' order and greedy actions as JSON."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    ray.init(
        address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
        object_store_memory=100_000_000, _temp_dir=folder,
    )  # fmt: skip
    if what == "train":
        config = toys.small(MAPPOConfig(), HashedTeam).training(lr=0.01)
        algo = config.multi_agent(parameter_sharing="full").build_algo()
        algo.train()
        algo.save_to_path(path)
    else:
        algo = MAPPO.from_checkpoint(path)
    HashedTeam.played.clear()
    algo.evaluate()
    print("\n" + json.dumps([list(set(NAMES)), HashedTeam.played[:5]]))
    algo.stop()
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
