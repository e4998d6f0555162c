"""What an agent pays for as its team grows: `python tests/benchmarks/team_size.py`.

F2A2ISAC on MAgent's battle with 12, 64 and 256 agents, as `tuned_examples/f2a2isac/battle.py` has
them, all in this process: CPU milliseconds for each agent and update of (a) drawing and learning,
(b) the exchange along a ring; figure 7b of the F2A2 paper has both stay the same. Medians of
alternating rounds.

And, without measuring anything: what F2A2SAC sends on the two particle games of the paper, as a
share of what a method sends that also sends its policies.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from scaling import Stopwatch

sys.path.insert(0, str(Path(__file__).parents[1]))
import agent_toys

from rllib_hetero import F2A2SACConfig
from rllib_hetero.learners.agents.host import Host
from rllib_hetero.reporting.comparison import table

SCRIPTS = Path(__file__).parents[2] / "tuned_examples"
MAPS = {12: 20, 64: 40, 256: 80}
"""Agents of a team to the size of the map that has as many."""
GAMES = {
    "rover_tower": {"num_pairs": 4},
    "treasure_collection": {"num_hunters": 6, "num_banks": 2},
}


class Team:
    """Agents that have sampled enough to learn."""

    def __init__(self, agents: int) -> None:
        battle = runpy.run_path(str(SCRIPTS / "f2a2isac" / "battle.py"))
        arguments = battle["parser"].parse_args(["--map-size", str(MAPS[agents])])
        config = battle["make_config"](arguments)
        config.training(num_steps_sampled_before_learning_starts=100).debugging(seed=0)
        self.agents = agents
        self.loop = agent_toys.Loop(config)
        assert len(config.layout.team.agents) == agents
        (seat,) = self.loop.group.crew.seats
        self.watch, host = Stopwatch(time.process_time), seat._host
        for name, parts in {"learning": ["_update"], "exchange": ["_mix", "_copy"]}.items():
            for part in parts:
                setattr(host, part, self.watch.around(name, getattr(host, part)))
        self.loop.run(1, updates=1)
        self.watch.taken()

    def updates(self, count: int) -> dict[str, float]:
        """CPU milliseconds of an agent's update, by part."""
        self.loop.group.update([], env_steps=self.loop.steps, num_updates=count)
        return {k: 1e3 * s / count / self.agents for k, s in self.watch.taken().items()}


def by_team_size(rounds: int, updates: int) -> list[list[str]]:
    teams = {agents: Team(agents) for agents in MAPS}
    taken: dict[int, list[dict[str, float]]] = {agents: [] for agents in MAPS}
    for _ in range(rounds):
        for agents, team in teams.items():
            taken[agents].append(team.updates(updates))
    rows = []
    for part in ("learning", "exchange"):
        ms = {a: statistics.median(x[part] for x in measured) for a, measured in taken.items()}
        least = min(MAPS)
        rows += [
            [part, str(a), f"{ms[a]:.3f} ms", f"{ms[a] / ms[least]:.2f}"] for a in sorted(MAPS)
        ]
    return rows


def traffic(game: str) -> list[str]:
    """What one edge carries, and would with policies."""
    config: Any = (
        F2A2SACConfig()
        .environment("cooperative_mpe", env_config={"scenario": game, **GAMES[game]})
        .env_runners(num_env_runners=0)
        .learners(agents_per_learner=None)
    )
    config.validate()
    found = Host(config, config.members).describe().values()
    shared = sum(d.shared_bytes for d in found) / len(found)
    policies = sum(d.policy_bytes for d in found) / len(found)
    share = shared / (shared + policies)
    return [game, str(len(found)), f"{shared:,.0f}", f"{policies:,.0f}", f"{share:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=4, help="of one measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    header = ["game", "agents", "bytes of the shared part", "of a policy", "share"]
    print("\n".join(table(header, [traffic(game) for game in GAMES])), flush=True)
    header = ["part", "agents", "CPU time of an agent and update", "over 12 agents"]
    print("\n".join(table(header, by_team_size(args.rounds, args.updates))))


if __name__ == "__main__":
    main()
