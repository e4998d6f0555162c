"""What `overlap` saves of an on-policy iteration, and what it should save by the timers.

    python tests/benchmarks/overlap.py

Two runners, whose environments sleep 20 ms a vector step and compute nothing, as a simulator on a
machine of its own would seem from here; a critic of 3 x 256 units. Two runs, a few iterations of
one after a few of the other. Where the run that takes turns needs

    sampling + actors + critic + rest

for an iteration, the one that overlaps should need

    actors + rest + max(sampling, critic).

Prints both ratios of wall time, and the measured iteration over the predicted one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Runners that give way to all other processes would be what is measured on a busy machine.
os.environ.setdefault("RAY_worker_niceness", "0")

import measuring
import ray
import torch
from measuring import RandomTeam

from rllib_hetero import HAPPOConfig


class SleepingBatch(RandomTeam):
    """A `RandomTeam` whose vector step sleeps for `sleep_s`."""

    def __init__(self, config: dict) -> None:
        super().__init__(config)
        self._sleep_s = config["sleep_s"]

    def step(self, actions: dict) -> Any:
        time.sleep(self._sleep_s)
        return super().step(actions)


def built(args: argparse.Namespace, *, overlap: bool) -> Any:
    return (
        HAPPOConfig()
        .environment(SleepingBatch, env_config={"num_agents": 3, "sleep_s": args.sleep_ms / 1000})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10, num_cpus_per_env_runner=0.5)
        .rl_module(model_config={"hidden_sizes": [64, 64], "critic_hidden_sizes": [256] * 3})
        .training(
            train_batch_size_per_learner=args.batch, critic_num_epochs=args.critic_epochs,
            overlap=overlap,
        )
        .debugging(seed=0)
        .build_algo()
    )  # fmt: skip


class Clock:
    """Adds up the wall time of calls, and of walks through generators, until it is taken."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def call(self, function: Callable) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            found = function(*args, **kwargs)
            self._seconds += time.perf_counter() - start
            return found

        return timed

    def walk(self, generator: Callable[..., Iterator]) -> Callable:
        def timed(*args: Any) -> Iterator:
            start = time.perf_counter()
            yield from generator(*args)
            self._seconds += time.perf_counter() - start

        return timed

    def taken(self) -> float:
        seconds, self._seconds = self._seconds, 0.0
        return seconds


def seconds_of(algo: Any, iterations: int) -> float:
    """Wall time of an iteration; what is under way at the end is waited for within it."""
    start = time.perf_counter()
    for _ in range(iterations):
        algo.train()
    if algo.rollouts_ahead is not None:
        algo.rollouts_ahead.finish()
    return (time.perf_counter() - start) / iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3, help="in a row, of either run")
    parser.add_argument("--sleep-ms", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--critic-epochs", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)  # Runners want the other core.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.cloudpickle.register_pickle_by_value(measuring)
    # Directly below /tmp: Ray's sockets live there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, log_to_driver=False,
            object_store_memory=500_000_000, _temp_dir=folder,
        )  # fmt: skip
        turns, overlapped = (built(args, overlap=overlap) for overlap in (False, True))
        sampling, critic, waiting = Clock(), Clock(), Clock()
        learner = turns.learner_group._learner
        turns._sample = sampling.call(turns._sample)
        overlapped._take = waiting.call(overlapped._take)
        learner._update_critic = critic.walk(learner._update_critic)
        rows = []
        for i in range(args.rounds + 1):
            whole, short = (seconds_of(algo, args.iterations) for algo in (turns, overlapped))
            sampled, fitted, waited = (
                clock.taken() / args.iterations for clock in (sampling, critic, waiting)
            )
            if not i:
                continue
            predicted = whole - min(sampled, fitted)
            rows.append((short / whole, predicted / whole, short / predicted))
            print(
                f"by turns {whole:.2f} s, of which sampling {sampled:.2f}, critic {fitted:.2f}; "
                f"overlapped {short:.2f} s, waiting {waited:.2f}; predicted {predicted:.2f}"
            )
        for algo in (turns, overlapped):
            algo.stop()
        ray.shutdown()
    for what, values in zip(
        ("iteration / by turns", "the same, predicted", "measured / predicted"),
        zip(*rows, strict=True),
        strict=True,
    ):
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{what:22s} {statistics.median(values):.2f}  ({spread})")


if __name__ == "__main__":
    main()
