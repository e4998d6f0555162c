"""What fragments cost the driver, by reference and by value.

    python tests/benchmarks/fragments.py --fragments 64 --steps 4000

Remote runners sample, remote learners learn, and the driver does what it does in between. The
same algorithm takes turns: an iteration in which learners read what runners have posted, and one
in which the driver fetches fragments and sends them on, as it would with a learner of its own. An
iteration with several fragments of each runner takes so many rounds.

Prints the driver's CPU time of an iteration, all its threads together, and of that the part in
which a batch is sampled and the part in which it is handed to the learners: medians, in brackets
the smallest and the largest. Networks are small and learn for one epoch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from measuring import RandomTeam
from scaling import Stopwatch

from rllib_hetero import HAPPOConfig
from rllib_hetero.reporting.comparison import table

PARTS = ("sampling", "update", "iteration")
ENVS = 20


def build(args: argparse.Namespace) -> Any:
    """HAPPO on three agents that cost nothing to step."""
    config = (
        HAPPOConfig()
        .environment(RandomTeam, env_config={"num_agents": 3})
        .env_runners(
            num_env_runners=args.runners,
            num_envs_per_env_runner=ENVS,
            rollout_fragment_length=args.steps // ENVS,
            num_cpus_per_env_runner=0.01,
            sample_timeout_s=600,
        )
        .learners(num_learners=args.learners, num_cpus_per_learner=0.01)
        .rl_module(model_config={"hidden_sizes": [8]})
        .training(
            train_batch_size_per_learner=args.fragments * args.steps // args.learners,
            minibatch_size=None,
            num_epochs=1,
            critic_num_epochs=1,
        )
        .debugging(seed=0, log_level="ERROR")
    )
    return config.build_algo()


def measure(args: argparse.Namespace) -> dict[bool, list[dict[str, float]]]:
    """CPU seconds of the parts of each iteration, by whether fragments go by reference."""
    algo, watch = build(args), Stopwatch(time.process_time)
    algo._sample = watch.around("sampling", algo._sample)
    algo.learner_group.update = watch.around("update", algo.learner_group.update)
    train = watch.around("iteration", algo.train)
    seconds: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for i in range(args.rounds + 1):
        for by_reference, of_iterations in seconds.items():
            algo._by_reference = by_reference
            train()
            taken = watch.taken()
            if i:  # The first ones warm up.
                of_iterations.append(taken)
    algo.stop()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fragments", type=int, default=64, help="of a batch")
    parser.add_argument("--steps", type=int, default=4000, help="of a fragment")
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--learners", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    # Directly below /tmp: Ray's sockets live there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=1_000_000_000, _temp_dir=folder,
        )  # fmt: skip
        seconds = measure(args)
        ray.shutdown()
    rows = []
    for by_reference, of_iterations in seconds.items():
        cells = ["reference" if by_reference else "value"]
        for part in PARTS:
            ms = [1000 * taken[part] for taken in of_iterations]
            cells.append(f"{statistics.median(ms):.0f} ms ({min(ms):.0f} to {max(ms):.0f})")
        rows.append(cells)
    print("\n".join(table(["fragments by", *PARTS], rows)))


if __name__ == "__main__":
    main()
