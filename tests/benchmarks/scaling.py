"""Throughput by the number of env runners, with environments that only sleep.

    python tests/benchmarks/scaling.py --out scaling --runners 1 2 4 8 16 32 64

Weak scaling: every runner takes the same number of steps per iteration, so the batch grows with the
runners. A step of an environment sleeps for 20 ms and computes nothing, as a slow simulator on a
machine of its own would seem from here; a runner's environments sleep one after another. What is
left is the library's and RLlib's own cost, and the cores that all processes share.

Prints steps/s, the efficiency (steps/s for each runner, over that with the fewest runners), and the
parts of an iteration:

    sleep      what the environments are told to sleep
    oversleep  what they sleep longer: the processor was busy when they were to wake up
    runner     policies and bookkeeping within the mean runner's `sample()`
    slowest    the slowest runner's `sample()` over the mean one's
    fetch      the driver's time for sampling over the slowest runner's: calls, fragments, metrics
    learner    the update, in the driver
    sync       sending weights to the runners
    driver     the rest of `algo.train()`

Writes scaling.csv and scaling.png into --out. Numbers of runners that do not fit into the machine's
free memory are left out, and said.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray
from gymnasium.spaces import Box
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero import HAPPOConfig
from rllib_hetero.algorithms.on_policy import algorithm
from rllib_hetero.reporting.comparison import table
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

PARTS = ("sleep", "oversleep", "runner", "slowest", "fetch", "learner", "sync", "driver")
Measured = dict[str, float]


class SleepingTeam(MultiAgentEnv):
    """Three unlike agents; a step sleeps for `sleep_s`, and remembers how long it really took."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.agents = self.possible_agents = ["a", "b", "c"]
        sizes = {"a": 12, "b": 18, "c": 24}
        self.observation_spaces = {
            agent: Box(-np.inf, np.inf, (size,), np.float32) for agent, size in sizes.items()
        }
        self.action_spaces = {agent: Box(-1.0, 1.0, (2,), np.float32) for agent in sizes}
        self._sleep_s = config["sleep_s"]
        self._seen = {agent: np.ones(size, np.float32) for agent, size in sizes.items()}
        self.slept_s = 0.0
        self._t = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        self._t = 0
        return self._seen, {}

    def step(self, actions: Mapping[str, np.ndarray]) -> tuple:
        start = time.perf_counter()
        time.sleep(self._sleep_s)
        self.slept_s += time.perf_counter() - start
        self._t += 1
        rewards = {agent: -float(np.square(u).sum()) for agent, u in actions.items()}
        return self._seen, rewards, {"__all__": False}, {"__all__": self._t >= 50}, {}


class TimedRunner(TeamEnvRunner):
    """Logs what its `sample()` took, and its environments' sleep."""

    def sample(self, **kwargs: Any) -> list:
        before, start = sum(e.slept_s for e in self.env.envs), time.perf_counter()
        fragments = super().sample(**kwargs)
        took = time.perf_counter() - start
        slept = sum(e.slept_s for e in self.env.envs) - before
        self.metrics.log_value("sample_sum_s", took, reduce="sum")
        self.metrics.log_value("sample_max_s", took, reduce="max")
        self.metrics.log_value("slept_sum_s", slept, reduce="sum")
        return fragments


# ---- one number of runners ----------------------------------------------------------------------


class Stopwatch:
    """Adds up the seconds of calls, by name, until they are taken."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}

    def around(self, name: str, function: Callable) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self._clock()
            try:
                return function(*args, **kwargs)
            finally:
                took = self._clock() - start
                self._seconds[name] = self._seconds.get(name, 0.0) + took

        return timed

    def taken(self) -> dict[str, float]:
        seconds, self._seconds = self._seconds, {}
        return seconds


def measure(runners: int, args: argparse.Namespace) -> list[Measured]:
    """One dict for each iteration after the warm-up: its steps, and its parts in seconds."""
    config = (
        HAPPOConfig()
        .environment(SleepingTeam, env_config={"sleep_s": args.sleep_ms / 1000})
        .env_runners(
            env_runner_cls=TimedRunner,
            num_env_runners=runners,
            num_envs_per_env_runner=args.envs,
            num_cpus_per_env_runner=0.01,  # the runners sleep: more of them than cores is the point
            sample_timeout_s=600,
        )
        .rl_module(model_config={"hidden_sizes": [64, 64]})
        .training(train_batch_size_per_learner=args.steps * runners, num_epochs=args.epochs)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    watch, sample = Stopwatch(), algorithm.synchronous_parallel_sample
    algorithm.synchronous_parallel_sample = watch.around("sampling", sample)
    algo.learner_group.update = watch.around("learner", algo.learner_group.update)
    algo._sync_weights = watch.around("sync", algo._sync_weights)
    try:
        for _ in range(args.warm_up):
            algo.train()
        watch.taken()
        iterations = []
        for _ in range(args.iterations):
            start = time.perf_counter()
            result = algo.train()["env_runners"]
            seconds = time.perf_counter() - start
            iterations.append(
                parts_of(
                    seconds, watch.taken(), result, runners=runners,
                    asked_s=args.steps * args.sleep_ms / 1000,
                )
            )  # fmt: skip
        return iterations
    finally:
        algorithm.synchronous_parallel_sample = sample
        algo.stop()


def parts_of(
    seconds: float,
    driver: Mapping[str, float],
    result: Mapping[str, float],
    *,
    runners: int,
    asked_s: float,
) -> Measured:
    """The parts of one iteration; they add up to its seconds.

    Args:
        seconds: Of the whole `algo.train()`.
        driver: Seconds of "sampling", "learner" and "sync", as the driver saw them.
        result: The iteration's `env_runners` metrics.
        runners: How many there are.
        asked_s: What one runner's environments were told to sleep.
    """
    sample_s, slept_s = result["sample_sum_s"] / runners, result["slept_sum_s"] / runners
    slowest_s = result["sample_max_s"]
    parts = {
        "sleep": asked_s,
        "oversleep": slept_s - asked_s,
        "runner": sample_s - slept_s,
        "slowest": slowest_s - sample_s,
        "fetch": driver["sampling"] - slowest_s,
        "learner": driver["learner"],
        "sync": driver["sync"],
    }
    rest = seconds - sum(parts.values())
    steps = float(result["num_env_steps_sampled"])
    return {"env_steps": steps, "seconds": seconds, **parts, "driver": rest}


# ---- several numbers of runners -----------------------------------------------------------------


def summary(runners: int, iterations: Sequence[Measured]) -> Measured:
    """Steps/s over all iterations, and the mean iteration's parts."""
    mean = {key: statistics.fmean(i[key] for i in iterations) for key in iterations[0]}
    rate = sum(i["env_steps"] for i in iterations) / sum(i["seconds"] for i in iterations)
    return {"runners": runners, "steps_per_s": rate, **mean}


def with_efficiency(rows: Sequence[Measured]) -> list[Measured]:
    """Adds `efficiency`: steps/s for each runner, over that of the row with the fewest runners."""
    fewest = min(rows, key=lambda row: row["runners"])
    alone = fewest["steps_per_s"] / fewest["runners"]
    return [{**row, "efficiency": row["steps_per_s"] / row["runners"] / alone} for row in rows]


def that_fit(
    counts: Sequence[int], free_gib: float, *, each_gib: float, spare_gib: float
) -> list[int]:
    """The numbers of runners whose processes fit into the free memory."""
    return [n for n in counts if n * each_gib + spare_gib <= free_gib]


def free_memory_gib(meminfo: str) -> float:
    """What the kernel says is available, from the text of /proc/meminfo."""
    (line,) = (line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) / 2**20


def printed(rows: Sequence[Measured]) -> str:
    """A Markdown table: throughput, efficiency, and each part as a share of the iteration."""
    header = ["runners", "steps/s", "efficiency", "iteration", *PARTS]
    cells = [
        [
            f"{row['runners']:.0f}",
            f"{row['steps_per_s']:,.0f}",
            f"{row['efficiency']:.2f}",
            f"{row['seconds']:.2f} s",
            *(f"{row[part] / row['seconds']:.1%}" for part in PARTS),
        ]
        for row in rows
    ]
    return "\n".join(table(header, cells))


def write_csv(rows: Sequence[Measured], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 4) for k, v in row.items()} for row in rows)


def draw(rows: Sequence[Measured], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    rates, shares = figure.subplots(1, 2)
    counts = [row["runners"] for row in rows]
    alone = rows[0]["steps_per_s"] / counts[0]
    rates.plot(counts, [alone * n for n in counts], color="0.6", linestyle="--", label="linear")
    rates.plot(counts, [row["steps_per_s"] for row in rows], marker="o", label="measured")
    rates.set_xscale("log", base=2)
    rates.set_yscale("log", base=2)
    for row in rows:
        point = row["runners"], row["steps_per_s"]
        rates.annotate(
            f"{row['efficiency']:.2f}", point, xytext=(4, -12), textcoords="offset points"
        )
    rates.set(xlabel="env runners", ylabel="env steps/s", title="throughput, and its efficiency")
    rates.legend(frameon=False)
    places, bottom = range(len(rows)), np.zeros(len(rows))
    for part in PARTS:
        share = np.array([max(0.0, row[part]) / row["seconds"] for row in rows])
        shares.bar(places, share, bottom=bottom, label=part)
        bottom += share
    shares.set_xticks(places, [f"{n:.0f}" for n in counts])
    shares.set(xlabel="env runners", title="share of an iteration", ylim=(0, 1))
    shares.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for axis in (rates.xaxis, rates.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    for axes in (rates, shares):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runners", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--sleep-ms", type=float, default=20.0, help="of one environment's step")
    parser.add_argument("--envs", type=int, default=4, help="environments of a runner")
    parser.add_argument("--steps", type=int, default=400, help="of a runner in an iteration")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2, help="iterations before those")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--gib-per-runner", type=float, default=0.5, help="memory of a process")
    parser.add_argument("--spare-gib", type=float, default=2.5, help="Ray, driver, all others")
    parser.add_argument("--out", type=Path, default=Path("results/scaling"))
    args = parser.parse_args()
    free = free_memory_gib(Path("/proc/meminfo").read_text())
    counts = that_fit(
        sorted(args.runners), free, each_gib=args.gib_per_runner, spare_gib=args.spare_gib
    )
    left_out = sorted(set(args.runners) - set(counts))
    print(f"{len(os.sched_getaffinity(0))} cores, {free:.1f} GiB of memory free", flush=True)
    if left_out:
        print(f"not measured, for want of memory: {left_out} runners", flush=True)
    if not counts:
        raise SystemExit("Nothing fits. Lower --runners, --gib-per-runner or --spare-gib.")
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[Measured] = []
    # Directly below /tmp: Ray's sockets live there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=500_000_000, _temp_dir=folder,
        )  # fmt: skip
        for runners in counts:
            rows.append(summary(runners, measure(runners, args)))
            print(printed(with_efficiency(rows)).splitlines()[-1], flush=True)
            # After each one: the largest may be ended by a machine that runs out of memory.
            write_csv(with_efficiency(rows), args.out / "scaling.csv")
            draw(with_efficiency(rows), args.out / "scaling.png")
        ray.shutdown()
    print("\n" + printed(with_efficiency(rows)))


if __name__ == "__main__":
    main()
