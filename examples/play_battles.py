"""Battles of MAgent2 on maps of several sizes, with policies that were trained on one. No Ray.

What an agent of a battle sees, and what it can do, is the same on all maps: what few agents have
learnt can be used by many. Agents are dealt out to the policies of the checkpoint in turn.

How to run this script
----------------------
`python examples/play_battles.py results/f2a2isac-battle-s1/checkpoint`

plays 4 battles with 12, 64, 256 and 625 agents in each team, actions drawn as in training, against
opponents that act at random. `--map-sizes 20 40` plays only the smaller ones; `--battles` and
`--seed` say how many, and which. The policies must have been trained with `agent_index=False`,
which is F2A2ISAC's default.

Results to expect
-----------------
A table: of each size the share of battles won, and how many are left of both teams.
"""

import argparse

import numpy as np

from rllib_hetero import load_policies
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero.reporting.comparison import table

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("checkpoint", help="the folder that algo.save_to_path() or Tune wrote")
parser.add_argument("--map-sizes", type=int, nargs="+", default=[20, 40, 80, 125])
parser.add_argument("--battles", type=int, default=4, help="of each size, all at once")
parser.add_argument("--seed", type=int, default=0)


def play(policies, map_size, battles, seed):
    """Plays battles to their ends.

    Returns:
        How many agents a team has, and means over the battles of what MAgent's count.
    """
    env = ENVIRONMENTS["magent"](
        {"scenario": "battle", "map_size": map_size, "state": None, "num_envs": battles}
    )
    env.reset(range(battles), [seed + i for i in range(battles)])
    rng = np.random.default_rng(seed)
    actors = [agents[0] for agents in policies.layout.groups.values()]
    dealt = {actor: env.team.agents[i :: len(actors)] for i, actor in enumerate(actors)}
    ends = {}
    while len(ends) < battles:
        actions = {}
        for actor, agents in dealt.items():
            if agents:
                seen = np.concatenate([env.observations[a] for a in agents])
                acts = policies.act_batch([actor] * len(seen), seen, explore=True, rng=rng)
                actions |= dict(zip(agents, acts.reshape(len(agents), battles), strict=True))
        outcome = env.step(actions)
        over = np.flatnonzero(outcome.terminated | outcome.truncated)
        if len(over):
            metrics = env.episode_metrics(over)
            for k, e in enumerate(over):
                ends.setdefault(e, {name: values[k] for name, values in metrics.items()})
            env.reset(over, [None] * len(over))
    means = {name: np.mean([end[name] for end in ends.values()]) for name in ends[0]}
    return len(env.team.agents), means


def main():
    args = parser.parse_args()
    policies = load_policies(args.checkpoint)
    rows = []
    for map_size in args.map_sizes:
        size, means = play(policies, map_size, args.battles, args.seed)
        rows.append([
            str(size), f"{means['win_rate']:.2f}",
            f"{means['allies_left']:.1f}", f"{means['enemies_left']:.1f}",
        ])  # fmt: skip
    print("\n".join(table(["agents in each team", "won", "ours left", "theirs left"], rows)))


if __name__ == "__main__":
    main()
