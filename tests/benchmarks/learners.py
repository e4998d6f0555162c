"""The time of an update by the number of learners, with narrow and with wide networks.

    python tests/benchmarks/learners.py --learners 0 1 2 --widths 64 512

The batch is the same for all; several learners share it. All of them are built first and then take
turns, so that a busy machine slows all alike. Every learner has one thread. Prints, for each width
and number of learners, the median seconds of `learner_group.update` and the ratio to 0 learners (in
the driver); and the gradient steps of an update, each of which costs several learners a message.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import torch
from scaling import SleepingTeam, Stopwatch

from rllib_hetero import HAPPOConfig
from rllib_hetero.reporting.comparison import table


def build(learners: int, width: int, args: argparse.Namespace) -> Any:
    """HAPPO on a team that costs nothing to step."""
    config = (
        HAPPOConfig()
        .environment(SleepingTeam, env_config={"sleep_s": 0.0})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        .learners(num_learners=learners, num_cpus_per_learner=1)
        .rl_module(model_config={"hidden_sizes": [width, width]})
        .training(
            train_batch_size_per_learner=args.steps // max(1, learners),
            minibatch_size=None,
            num_epochs=args.epochs,
        )
        .debugging(seed=0)
    )
    return config.build_algo()


def measure(width: int, args: argparse.Namespace) -> list[list[str]]:
    """A row for each number of learners."""
    algos = {n: build(n, width, args) for n in args.learners}
    watches = {}
    for n, algo in algos.items():
        watches[n] = Stopwatch()
        algo.learner_group.update = watches[n].around("update", algo.learner_group.update)
        algo.train()  # the first one allocates
        watches[n].taken()
    seconds: dict[int, list[float]] = {n: [] for n in algos}
    for _ in range(args.rounds):
        for n, algo in algos.items():
            algo.train()
            seconds[n].append(watches[n].taken()["update"])
    config = algos[args.learners[0]].config
    steps = config.num_epochs * (len(config.layout.groups) + 1)
    first = statistics.median(seconds[args.learners[0]])
    rows = []
    for n, algo in algos.items():
        median = statistics.median(seconds[n])
        spread = f"{min(seconds[n]):.3f} to {max(seconds[n]):.3f}"
        rows.append(
            [str(width), str(n), f"{median:.3f} s", spread, f"{median / first:.2f}", str(steps)]
        )
        algo.stop()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learners", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 512], help="of both layers")
    parser.add_argument("--steps", type=int, default=4000, help="environment steps of a batch")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    header = ["width", "learners", "update", "smallest to largest", "ratio", "steps"]
    rows: list[list[str]] = []
    # Directly below /tmp: Ray's sockets live there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local", num_cpus=sum(args.learners) + 1, include_dashboard=False,
            log_to_driver=False, object_store_memory=500_000_000, _temp_dir=folder,
        )  # fmt: skip
        for width in args.widths:
            rows += measure(width, args)
            print("\n".join(table(header, rows)).splitlines()[-1], flush=True)
        ray.shutdown()
    print("\n" + "\n".join(table(header, rows)))


if __name__ == "__main__":
    main()
