"""What the exchange between agents' actors costs.

    python tests/benchmarks/consensus.py --agents 8 --size 500000

One round: all agents publish, are told their weights, read their neighbours' copies and mix; beside
a bare loop in which the same actors put as many bytes into Ray's object store, and get those of as
many others. And an iteration: updates of so many agents in actors of their own, beside the same
updates in one process. Medians of alternating runs, since a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import agent_toys
import toys

from rllib_hetero.consensus.graphs import neighbours
from rllib_hetero.consensus.shared_part import SharedPart
from rllib_hetero.reporting.comparison import table


class Learning(agent_toys.ToyMember):
    """A critic of so many parameters, fitted to the rewards of so many rows."""

    def __init__(self, config: Any, module_id: str, device: Any) -> None:
        super().__init__(config, module_id, device)
        width, inputs = config.env_config["width"], config.layout.team.critic_space.shape[0]
        self.critic = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 1),
        )  # fmt: skip
        parameters = {f"critic.{k}": p for k, p in self.critic.named_parameters()}
        self.shared = SharedPart(parameters, agent_toys.is_in_critic)
        self.consensus = config.new_consensus(self.shared)
        self.optimiser = torch.optim.Adam(self.critic.parameters(), lr=1e-3)

    def update(self, batch: Any, seed: tuple[int, ...], policies_of_others: Any) -> None:
        for _ in range(self.config.env_config["steps_per_update"]):
            target = batch.agent_rewards[:, self.number]
            loss = ((self.critic(batch.state)[:, 0] - target) ** 2).mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.consensus.add_to_gradients()
            self.optimiser.step()
        self.consensus.end_update()


class Config(agent_toys.ToyConfig):
    """Configures agents with such critics."""

    def get_member_class(self) -> type:
        return Learning


def loop(args: argparse.Namespace, host: int | None, *, steps_per_update: int) -> agent_toys.Loop:
    """Agents that have sampled enough to learn."""
    agents = {f"a{k:02d}": (2, "discrete") for k in range(args.agents)}
    small = agent_toys.toy_config(agents)
    # Weights of a network of two hidden layers of equal width: about width^2.
    env_config = {
        "agents": agents,
        "width": int(args.size**0.5),
        "steps_per_update": steps_per_update,
    }
    config = (
        Config()
        .environment(toys.CountingTeam, env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=50)
        .learners(agents_per_learner=host, num_cpus_per_agent_learner=0.01)
        .consensus(topology=args.topology, peer_timeout_s=600.0)
        .training(
            train_batch_size_per_learner=args.batch, num_steps_sampled_before_learning_starts=100,
            replay_buffer_config={"capacity": 10_000},
        )
        .rl_module(model_config=small.model_config)
        .debugging(seed=0, log_level="ERROR")
    )  # fmt: skip
    made = agent_toys.Loop(config, by_reference=host is not None)
    made.run(1, updates=0)
    return made


@ray.remote(num_cpus=0.01)
class Bare:
    """Puts a vector, and gets those of others."""

    def __init__(self, size: int) -> None:
        torch.set_num_threads(1)
        self.x = np.random.default_rng(0).random(size, np.float32)

    def put(self) -> list[ray.ObjectRef]:
        return [ray.put(self.x.copy())]

    def get(self, references: list[ray.ObjectRef]) -> float:
        return float(sum(x[0] for x in ray.get(references)))


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def rounds(args: argparse.Namespace) -> list[list[str]]:
    """One round, beside the bare loop."""
    learning = loop(args, 1, steps_per_update=0)
    group, size = learning.group, learning.group._rounds._shared_bytes["a00"] // 4
    bare = [Bare.remote(size) for _ in range(args.agents)]
    beside = neighbours(learning.config.new_topology().edges(1))
    index = {m: k for k, m in enumerate(learning.config.members)}

    def without() -> None:
        for _ in range(args.updates):
            put = [x[0] for x in ray.get([b.put.remote() for b in bare])]
            ray.get([bare[index[m]].get.remote([put[index[j]] for j in beside[m]]) for m in beside])

    def exchange() -> None:
        group.update([], env_steps=0, num_updates=args.updates)

    taken: dict[str, list[float]] = {"bare": [], "round": []}
    without(), exchange()
    for _ in range(args.rounds):
        taken["bare"].append(timed(without) / args.updates)
        taken["round"].append(timed(exchange) / args.updates)
    group.shutdown()
    medians = {name: statistics.median(x) for name, x in taken.items()}
    shape = f"{args.agents} agents, {args.topology}, {size:,} numbers"
    return compare(medians, "round", f"a round of {shape}", "bare", "put and get alone")


def iterations(args: argparse.Namespace) -> list[list[str]]:
    """An iteration in actors, beside one process."""
    apart, together = (loop(args, host, steps_per_update=args.steps) for host in (1, None))
    taken: dict[str, list[float]] = {"apart": [], "together": []}
    runs = {"apart": apart, "together": together}
    for name in (*runs, *(list(runs) * args.rounds)):
        update = partial(runs[name].group.update, [], env_steps=0, num_updates=args.updates)
        taken[name].append(timed(update) / args.updates)
    apart.group.shutdown()
    medians = {name: statistics.median(x[1:]) for name, x in taken.items()}
    what = f"an update of {args.agents} agents in actors"
    return compare(medians, "apart", what, "together", "the same in one process")


def compare(ms: dict[str, float], ours: str, what: str, bare: str, beside: str) -> list[list[str]]:
    """Ours and what it is compared with."""
    return [
        [what, f"{ms[ours]:.1f} ms", f"{ms[ours] / ms[bare]:.2f}"],
        [beside, f"{ms[bare]:.1f} ms", "1"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--topology", default="full")
    parser.add_argument("--size", type=int, default=500_000, help="of the shared part, about")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="gradient steps of an update")
    parser.add_argument("--updates", type=int, default=10, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    ray.cloudpickle.register_pickle_by_value(agent_toys)
    ray.cloudpickle.register_pickle_by_value(toys)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    torch.set_num_threads(1)
    print("\n".join(table(["", "time", "ratio"], rounds(args) + iterations(args))))
    ray.shutdown()


if __name__ == "__main__":
    main()
