"""What the replay costs: drawing joint transitions, adding them, and memory.

    python tests/benchmarks/replay.py --capacity 100000 1000000

A team of the size of simple_spread (3 agents, 18 numbers seen, 5 done), 20 environments, episodes
of 25 steps, a full replay. CPU milliseconds of one thread, the median of many rounds in which all
rows take turns, so that a busy machine slows all alike; and the ratio to a bare copy of as many
numbers (observations, next observations, actions, rewards and ends, from contiguous tensors).
Memory is compared with one copy of the rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from gymnasium.spaces import Box

from rllib_hetero.layout import Layout
from rllib_hetero.replay import JointReplay, importance_weights, stratified, uniform
from rllib_hetero.reporting.comparison import table
from rllib_hetero.runners.fragment import Finals, TeamFragment
from rllib_hetero.sharing import lay_out
from rllib_hetero.team import Team

AGENTS, SEEN, DONE, ENVS, EPISODE = 3, 18, 5, 20, 25


def spread() -> Layout:
    """Three agents, each with a module of its own."""
    agents = tuple(f"agent_{i}" for i in range(AGENTS))
    team = Team(
        agents,
        dict.fromkeys(agents, Box(-np.inf, np.inf, (SEEN,), np.float32)),
        dict.fromkeys(agents, Box(0.0, 1.0, (DONE,), np.float32)),
    )
    return lay_out(team, "none")


def fragment(layout: Layout, steps: int, number: int, rng: np.random.Generator) -> TeamFragment:
    """Steps of all environments, of which the episodes are cut together."""
    modules, shape = list(layout.groups), (steps, ENVS)
    observations = {m: rng.random((steps + 1, ENVS, 1, SEEN), np.float32) for m in modules}
    cut = np.arange(number * steps, (number + 1) * steps) % EPISODE == EPISODE - 1
    step, env = (x.ravel() for x in np.meshgrid(np.flatnonzero(cut), np.arange(ENVS)))
    return TeamFragment(
        observations={m: x[:-1] for m, x in observations.items()},
        actions={m: rng.random((*shape, 1, DONE), np.float32) for m in modules},
        dist_inputs={},
        log_probs={},
        active={m: np.ones((*shape, 1), bool) for m in modules},
        rewards=rng.random((*shape, AGENTS), np.float32),
        state=None,
        terminated=np.zeros(shape, bool),
        truncated=np.repeat(cut[:, None], ENVS, 1),
        valid=np.ones(shape, bool),
        finals=Finals(
            step,
            env,
            {m: rng.random((len(step), 1, SEEN), np.float32) for m in modules},
            {m: np.ones((len(step), 1), bool) for m in modules},
            None,
        ),
        last_observations={m: x[-1] for m, x in observations.items()},
        last_active={m: np.ones((ENVS, 1), bool) for m in modules},
        last_state=None,
        continues=np.full(ENVS, not cut[-1]),
        source=(1, number),
    )


def full(capacity: int, alpha: float | None = None) -> JointReplay:
    """A replay in which every row has been written, and a tenth of them twice."""
    layout, rng = spread(), np.random.default_rng(0)
    replay = JointReplay(layout, capacity=capacity, num_columns=ENVS, alpha=alpha)
    for number in range(int(1.1 * capacity / (50 * ENVS)) + 1):
        replay.add(fragment(layout, 50, number, rng))
    return replay


def bare(capacity: int, batch: int) -> Callable[[], object]:
    """A copy of as many numbers from tensors in which next observations are stored too."""
    widths = (AGENTS * SEEN, AGENTS * SEEN, AGENTS * DONE, 1, 1)
    tensors = [torch.rand(capacity, w) for w in widths]

    def copy() -> list[torch.Tensor]:
        rows = torch.randint(capacity, (batch,))
        return [x.index_select(0, rows) for x in tensors]

    return copy


def copy_of_rows(capacity: int) -> int:
    """Bytes of one copy: what is seen, done and got, and flags for who is alive and for the end."""
    return capacity * (4 * (AGENTS * (SEEN + DONE) + 1) + AGENTS + 1)


def per_call(call: Callable[[], object], times: int) -> float:
    """CPU milliseconds."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times * 1e3


def measure(capacity: int, args: argparse.Namespace) -> list[list[str]]:
    """A row for each thing that is done with a full replay of this capacity."""
    replay, layout, rng = full(capacity), spread(), np.random.default_rng(1)
    draws = iter(range(10**9))

    def take(n_step: int) -> Callable[[], object]:
        return lambda: replay.take(uniform((0, next(draws)), len(replay), args.batch), n_step)

    by_priority, errors = full(capacity, alpha=0.6), rng.random(args.batch)

    def prioritized() -> None:
        total = by_priority.priorities.tree.total
        indices, priorities = by_priority.find(stratified((0, next(draws)), total, args.batch))
        importance_weights(priorities, total, len(by_priority), 0.4)
        by_priority.take(indices)
        by_priority.update_priorities(indices, errors)

    def add(steps: int) -> Callable[[], object]:
        new = fragment(layout, steps, 0, rng)
        return lambda: replay.add(new)

    calls = {
        "a bare copy": (bare(capacity, args.batch), 1),
        "1 step": (take(1), 1),
        "10 steps": (take(10), 1),
        "20 steps": (take(20), 1),
        "1 step, by priority": (prioritized, 1),
        "adding 50 x 20, a step": (add(50), 50 * ENVS),
        "adding 1 x 20, a step": (add(1), ENVS),
    }
    milliseconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name, (call, steps) in calls.items():
            milliseconds[name].append(per_call(call, 20) / steps)
    medians = {name: statistics.median(x) for name, x in milliseconds.items()}
    rows = [
        [f"{capacity:,}", name, f"{ms:.4f} ms", f"{ms / medians['a bare copy']:.2f}"]
        for name, ms in medians.items()
    ]
    ratio = replay.nbytes / copy_of_rows(capacity)
    rows.append([f"{capacity:,}", "memory", f"{replay.nbytes / 2**20:.1f} MiB", f"{ratio:.3f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capacity", type=int, nargs="+", default=[100_000])
    parser.add_argument("--batch", type=int, default=1000, help="joint transitions drawn at once")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for capacity in args.capacity for row in measure(capacity, args)]
    print("\n".join(table(["capacity", "what", "CPU", "ratio"], rows)))


if __name__ == "__main__":
    main()
