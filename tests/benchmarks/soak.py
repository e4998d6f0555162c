"""Trains for hours while env runners are killed, and watches what must not grow.

    python tests/benchmarks/soak.py smax '{"map": "3m"}' --hours 2 --kill-every 300

Every `--kill-every` seconds one of the remote runners' processes is killed (SIGKILL), the runners
in turn. After every iteration a row is written to OUT/soak.csv:

  memory     resident memory of the driver, and of the runners together, in MB
  processes  that descend from the driver and are not Ray's own
  steps      environment steps by the runners' count, and by the learners'

At the end a verdict is printed and OUT/soak.png drawn: whether both counts of steps agree, whether
all runners are back, whether a process is left after `stop()`, and how memory grew between the
second quarter and the last. Ends with status 1 if steps, runners or processes are not as they
should be; how much growth of memory is too much is for the reader to say.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import psutil
import ray
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_ENV_STEPS_TRAINED_LIFETIME

from rllib_hetero import HAPPOConfig

COLUMNS = [
    "minutes",
    "iteration",
    "kills",
    "healthy_runners",
    "sampled",
    "trained",
    "driver_mb",
    "runners_mb",
    "processes",
    "episode_return_mean",
    "env_failures",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env")
    parser.add_argument("env_config", type=json.loads, nargs="?", default={})
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--kill-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--envs", type=int, default=10, help="environments of a runner")
    parser.add_argument("--batch", type=int, default=2000, help="environment steps of an iteration")
    parser.add_argument("--out", type=Path, default=Path("soak"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    ray.init(address="local", num_cpus=args.runners + 1, include_dashboard=False)
    algo = (
        HAPPOConfig()
        .environment(args.env, env_config=args.env_config)
        .env_runners(num_env_runners=args.runners, num_envs_per_env_runner=args.envs)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=args.batch, num_epochs=1)
        .fault_tolerance(restart_failed_env_runners=True, delay_between_env_runner_restarts_s=1.0)
        .debugging(seed=0)
        .build_algo()
    )
    own = os.getpid()
    rows = _watch(algo, args)
    runners = runner_pids(algo)
    algo.stop()
    deadline = time.monotonic() + 60
    while (left := [p for p in runners if psutil.pid_exists(p)]) and time.monotonic() < deadline:
        time.sleep(1)
    ray.shutdown()
    # What outlived its runner has been handed to another parent, so it is looked for by session;
    # the shell that started this is no such process.
    known = {p.pid for p in (psutil.Process(), *psutil.Process().parents())}
    left += [p.pid for p in psutil.process_iter() if p.pid not in known and _is_ours(p, own)]
    _draw(rows, args.out / "soak.png")
    return _verdict(rows, args, left)


def _watch(algo: Any, args: argparse.Namespace) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    start = last_kill = time.monotonic()
    kills, said = 0, -math.inf
    with (args.out / "soak.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        while (now := time.monotonic()) - start < args.hours * 3600:
            # Not in the last minute, so that the end shows whether all came back.
            if now - last_kill > args.kill_every and now - start < args.hours * 3600 - 60:
                pids = runner_pids(algo)
                if len(pids) == args.runners:
                    os.kill(pids[kills % args.runners], signal.SIGKILL)
                    kills, last_kill = kills + 1, now
            row = _row(algo.train(), (time.monotonic() - start) / 60, kills)
            rows.append(row)
            writer.writerow(row)
            file.flush()
            if row["minutes"] > said + 1:
                said = row["minutes"]
                left = max(args.hours * 60 - said, 0)
                print({k: round(float(v), 1) for k, v in row.items()}, f"left {left:.0f} min")
    return rows


def _row(result: dict[str, Any], minutes: float, kills: int) -> dict[str, float]:
    driver = psutil.Process()
    # Ray starts workers from its raylet, which the driver started.
    family = [p for p in driver.children(recursive=True) if _is_worker(p)]
    runners = [p for p in family if "TeamEnvRunner" in _title(p)]
    sampled = result["env_runners"]
    return {
        "minutes": minutes,
        "iteration": result["training_iteration"],
        "kills": kills,
        "healthy_runners": result["fault_tolerance"]["num_healthy_workers"],
        "sampled": sampled[NUM_ENV_STEPS_SAMPLED_LIFETIME],
        "trained": result["learners"]["__all_modules__"][NUM_ENV_STEPS_TRAINED_LIFETIME],
        "driver_mb": driver.memory_info().rss / 2**20,
        "runners_mb": sum(_memory(p) for p in runners) / 2**20,
        "processes": len(family),
        "episode_return_mean": sampled.get("episode_return_mean", float("nan")),
        "env_failures": sampled.get("num_env_failures_lifetime", 0),
    }


def runner_pids(algo: Any) -> list[int]:
    """The remote runners' processes."""
    return algo.env_runner_group.foreach_env_runner(
        lambda runner: os.getpid(), local_env_runner=False, timeout_seconds=30
    )


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _is_worker(process: psutil.Process) -> bool:
    """Not a server of Ray's, and not one of its idle workers."""
    title = _title(process)
    servants = (
        "gcs_server",
        "raylet",
        "ray/dashboard",
        "ray/_private",
        "IDLE",
        "Agent",
        "spawn_ray",
    )
    return bool(title) and not any(word in title for word in servants)


def _is_ours(process: psutil.Process, own: int) -> bool:
    try:
        return os.getsid(process.pid) == os.getsid(own) and process.ppid() == 1
    except (OSError, psutil.Error):
        return False


def _verdict(rows: list[dict[str, float]], args: argparse.Namespace, left: list[int]) -> int:
    last = rows[-1]
    agree = all(r["sampled"] == r["trained"] for r in rows)
    back = last["healthy_runners"] == args.runners
    print(
        f"{len(rows)} iterations, {last['sampled']:.0f} steps, {last['kills']:.0f} runners killed"
    )
    print(f"steps: both counts agree in every iteration: {agree}")
    print(f"runners: all {args.runners} back: {back}")
    print(f"processes left after stop(): {len(left)}")
    quarter = len(rows) // 4
    for name in ("driver_mb", "runners_mb", "processes"):
        values = [r[name] for r in rows]
        early, late = np.median(values[quarter : 2 * quarter]), np.median(values[-quarter:])
        print(f"{name}: {early:.0f} in the second quarter, {late:.0f} in the last")
    return 0 if agree and back and not left else 1


def _draw(rows: list[dict[str, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True)
    minutes = [r["minutes"] for r in rows]
    for name, label in (("driver_mb", "driver"), ("runners_mb", "runners together")):
        axes[0].plot(minutes, [r[name] for r in rows], label=label)
    axes[0].set_ylabel("memory, MB")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    axes[1].plot(minutes, [r["healthy_runners"] for r in rows], label="healthy runners")
    axes[1].plot(minutes, [r["processes"] for r in rows], label="processes")
    axes[1].legend()
    axes[2].plot(minutes, [r["sampled"] / 1e6 for r in rows], label="sampled")
    axes[2].plot(minutes, [r["trained"] / 1e6 for r in rows], "--", label="trained")
    axes[2].set(ylabel="million steps", xlabel="minutes")
    axes[2].legend()
    kills = [
        m for m, a, b in zip(minutes[1:], rows, rows[1:], strict=False) if b["kills"] > a["kills"]
    ]
    for ax in axes:
        for minute in kills:
            ax.axvline(minute, color="0.85", linewidth=1, zorder=0)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
