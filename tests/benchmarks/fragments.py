"""What fragments cost the driver, by reference and by value.

    python tests/benchmarks/fragments.py --fragments 64 --steps 4000

Remote runners sample, remote learners learn, and the driver does what it does in between. The
same algorithm takes turns: an iteration in which learners read what runners have posted, and one
in which the driver fetches fragments and sends them on, as it would with a learner of its own. An
iteration with several fragments of each runner takes so many rounds.

Prints the driver's CPU time of an iteration, all its threads together, and of that the part in
which a batch is sampled and the part in which it is handed to the learners: medians, in brackets
the smallest and the largest. Networks are small and learn for one epoch.

    python tests/benchmarks/fragments.py --without-ray

does the driver's part of it alone, with Ray's way of writing (arrays beside the pickle, copied
once) in place of Ray: it reads what came from each runner, shares it out and writes each share.
"""

from __future__ import annotations

import argparse
import os
import pickle
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
from rllib_hetero.runners.fragment import shard
from rllib_hetero.runners.posted import PostedFragment
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

PARTS = ("sampling", "update", "iteration")
ENVS = 20


def config_of(args: argparse.Namespace) -> HAPPOConfig:
    """HAPPO on three agents that cost nothing to step."""
    return (
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


def measure(args: argparse.Namespace) -> dict[bool, list[dict[str, float]]]:
    """CPU seconds of the parts of each iteration, by whether fragments go by reference."""
    algo, watch = config_of(args).build_algo(), Stopwatch(time.process_time)
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


def measure_without_ray(args: argparse.Namespace) -> dict[bool, list[dict[str, float]]]:
    """As `measure`, of reading, sharing out and writing one batch."""
    config = config_of(args)
    config.validate()
    (fragment,) = TeamEnvRunner(config=config, worker_index=1).sample()
    posted = PostedFragment(b"0" * 28, fragment.steps_by_env, fragment.problem)
    seconds: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for by_reference, of_iterations in seconds.items():
        sent = [written(posted if by_reference else fragment) for _ in range(args.fragments)]
        for _ in range(args.rounds):
            before = time.process_time()
            there = [pickle.loads(data, buffers=arrays) for data, arrays in sent]
            middle = time.process_time()
            for share in shard(there, args.learners):
                written(share)
            after = time.process_time()
            taken = {"sampling": middle - before, "update": after - middle}
            of_iterations.append(taken | {"iteration": after - before})
    return seconds


def written(thing: Any) -> tuple[bytes, list[bytes]]:
    """A pickle, and the arrays beside it."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return data, [bytes(buffer) for buffer in buffers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fragments", type=int, default=64, help="of a batch")
    parser.add_argument("--steps", type=int, default=4000, help="of a fragment")
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--learners", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-ray", action="store_true")
    args = parser.parse_args()
    if args.without_ray:
        report(measure_without_ray(args))
        return
    # Directly below /tmp: Ray's sockets live there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=1_000_000_000, _temp_dir=folder,
        )  # fmt: skip
        seconds = measure(args)
        ray.shutdown()
    report(seconds)


def report(seconds: dict[bool, list[dict[str, float]]]) -> None:
    rows = []
    for by_reference, of_iterations in seconds.items():
        cells = ["reference" if by_reference else "value"]
        for part in PARTS:
            ms = [1000 * taken[part] for taken in of_iterations]
            cells.append(f"{statistics.median(ms):.1f} ms ({min(ms):.1f} to {max(ms):.1f})")
        rows.append(cells)
    print("\n".join(table(["fragments by", *PARTS], rows)))


if __name__ == "__main__":
    main()
