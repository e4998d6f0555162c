"""Trainings that are struck by a fault half way, in this process, and what that cost.

Used by `faults.py`. Every environment notes how many steps it took, in a file, so that steps that
were taken and never trained on are counted and not estimated.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_ENV_STEPS_TRAINED_LIFETIME
from ray.tune import register_env
from soak import runner_pids

from rllib_hetero import HAPPOConfig
from rllib_hetero.cli.settings import apply
from rllib_hetero.envs.mpe import make_mpe

RUNNERS, ENVS, BATCH = 2, 5, 1000
STRIKE = 0.4  # of the iterations
JOIN_AFTER_S = 10.0
LIMIT_S = 5.0  # for an environment that hangs

SETTINGS: dict[str, dict[str, Any]] = {
    "environment": {"env": "mpe", "env_config": {"scenario": "simple_spread"}},
    "env_runners": {"num_env_runners": RUNNERS, "num_envs_per_env_runner": ENVS},
    "training": {"train_batch_size_per_learner": BATCH, "num_epochs": 5},
    "learners": {"num_learners": 0},
    "rl_module": {"model_config": {"hidden_sizes": [64, 64]}},
    "fault_tolerance": {"delay_between_env_runner_restarts_s": 1.0},
}


def make_struck(config: Any) -> Any:
    """simple_spread, which counts its steps, and obeys a file that bears its runner's number."""
    folder, number = Path(config["folder"]), config.worker_index
    env = make_mpe({"scenario": "simple_spread", "backend": "mpe2"})
    if not number:
        return env  # the one that the config reads its team from
    name = f"{number}-{config.vector_index}-{os.getpid()}-{time.monotonic_ns()}.steps"
    counter = os.open(folder / name, os.O_CREAT | os.O_WRONLY)
    step, steps = env.step, itertools.count(1)

    def struck_step(actions: Any) -> Any:
        for order in ("hang", "raise"):
            if (marker := folder / f"{order}-{number}").exists():
                marker.unlink()
                if order == "raise":
                    raise RuntimeError("an environment that fails, as it was told to")
                time.sleep(86400)
        outcome = step(actions)
        os.pwrite(counter, b"%d" % next(steps), 0)
        return outcome

    env.step = struck_step
    return env


# Remote workers cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def steps_taken(folder: Path) -> int:
    """Of all environments, those of runners that are gone included."""
    return sum(int(file.read_text() or 0) for file in folder.glob("*.steps"))


class Struck:
    """A training in this process.

    Args:
        folder: For the environments' notes; must be empty.
        seed: The training's.
        iterations: How many.
        more: Settings beside `SETTINGS`, by section.
    """

    def __init__(self, folder: Path, seed: int, iterations: int, **more: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.iterations = iterations
        sections = {name: {**values, **more.get(name, {})} for name, values in SETTINGS.items()}
        sections["environment"] = {"env_config": {"folder": str(folder)}}
        sections["debugging"] = {"seed": seed, "log_level": "ERROR"}
        register_env("struck_spread", make_struck)
        config = HAPPOConfig().environment("struck_spread")
        apply(config, sections)
        self.algo = config.build_algo()
        self.rows: list[dict[str, float]] = []

    def train(self, strike: Callable[[], None] | None = None, **between: Any) -> dict[str, Any]:
        """Trains, with the fault in the middle of sampling, and says what it cost.

        Args:
            strike: Does it.
            between: `join`: called once, `JOIN_AFTER_S` after the fault.
        """
        start, struck_at, waiting = time.monotonic(), 0.0, list(between.values())
        while len(self.rows) < self.iterations:
            if strike is not None and len(self.rows) == int(STRIKE * self.iterations):
                struck_at = self._strike_soon(strike)
                strike = None
            self.rows.append(self._row(self.algo.train(), start))
            if waiting and struck_at and time.monotonic() - struck_at > JOIN_AFTER_S:
                waiting.pop()()
        self.algo.stop()
        return {
            "returns": [row["return"] for row in self.rows],
            "lost_steps": steps_taken(self.folder) - int(self.rows[-1]["trained"]),
            "restarts": int(self.rows[-1]["restarts"]),
            "seconds": round(self.rows[-1]["at"] - start, 1),
            **(self._recovery(struck_at) if struck_at else {}),
        }

    def _strike_soon(self, strike: Callable[[], None]) -> float:
        """Once the runners have begun with the next fragment; returns when."""
        before = steps_taken(self.folder)

        def wait_and_strike() -> None:
            while steps_taken(self.folder) < before + BATCH // 10:
                time.sleep(0.001)
            strike()

        threading.Thread(target=wait_and_strike, daemon=True).start()
        return time.monotonic()

    def _row(self, result: dict[str, Any], start: float) -> dict[str, float]:
        sampled, faults = result["env_runners"], result["fault_tolerance"]
        return {
            "at": time.monotonic(),
            "sampled": sampled.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0),
            "trained": result["learners"]["__all_modules__"][NUM_ENV_STEPS_TRAINED_LIFETIME],
            "healthy": faults["num_healthy_workers"],
            "restarts": faults["num_remote_worker_restarts"],
            "failures": sampled.get("num_env_failures_lifetime", 0),
            "return": sampled.get("episode_return_mean", float("nan")),
        }

    def _recovery(self, struck_at: float) -> dict[str, float | None]:
        """Seconds until the driver noticed, and until all runners were back."""
        after = [row for row in self.rows if row["at"] > struck_at]
        hurt = [i for i, row in enumerate(after) if row["healthy"] < RUNNERS or row["restarts"]]
        if not hurt:  # within the runner: nothing was ever missing
            noticed = next(row for row in after if row["failures"])
            return dict.fromkeys(("noticed_s", "full_s"), round(noticed["at"] - struck_at, 1))
        back = [row for row in after[hurt[0] :] if row["healthy"] == RUNNERS]
        return {
            "noticed_s": round(after[hurt[0]]["at"] - struck_at, 1),
            "full_s": round(back[0]["at"] - struck_at, 1) if back else None,
        }


# ---- the faults ---------------------------------------------------------------------------------


def on_one_machine(run: Callable[..., dict], *args: Any) -> dict[str, Any]:
    """Runs one of those below with a Ray of its own."""
    ray.init(
        address="local", num_cpus=RUNNERS + 1, include_dashboard=False, log_to_driver=False,
        object_store_memory=200_000_000,
    )  # fmt: skip
    try:
        return run(*args)
    finally:
        ray.shutdown()


def undisturbed(folder: Path, seed: int, iterations: int) -> dict[str, Any]:
    """No fault."""
    return Struck(folder, seed, iterations).train()


def runner_killed(folder: Path, seed: int, iterations: int) -> dict[str, Any]:
    """SIGKILL to the process of one of two runners."""
    struck = Struck(folder, seed, iterations)
    pid = runner_pids(struck.algo)[0]
    return struck.train(lambda: os.kill(pid, signal.SIGKILL))


def env_hangs(folder: Path, seed: int, iterations: int) -> dict[str, Any]:
    """`step` of one environment of one runner does not return."""
    limit = {"env_timeout_s": LIMIT_S}
    struck = Struck(folder, seed, iterations, fault_tolerance=limit)
    return struck.train((folder / "hang-1").touch)


def env_raises(folder: Path, seed: int, iterations: int) -> dict[str, Any]:
    """`step` of one environment of one runner raises."""
    restart = {"restart_failed_sub_environments": True}
    struck = Struck(folder, seed, iterations, fault_tolerance=restart)
    return struck.train((folder / "raise-1").touch)


def node_killed(folder: Path, seed: int, iterations: int) -> dict[str, Any]:
    """SIGKILL to the raylet of one of two worker nodes, each with one runner; a third joins."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    place = {"num_cpus": 1, "resources": {"runner": 1}}
    try:
        nodes = [cluster.add_node(**place) for _ in range(RUNNERS)]
        ray.init(address=cluster.address, log_to_driver=False)
        struck = Struck(
            folder, seed, iterations,
            env_runners={"custom_resources_per_env_runner": {"runner": 1}},
            # The driver waits that long, in each iteration, for a runner that has no place.
            fault_tolerance={"env_runner_health_probe_timeout_s": 2.0},
        )  # fmt: skip
        raylet = nodes[0].all_processes["raylet"][0].process.pid
        assert psutil.Process(raylet).name() == "raylet"
        return struck.train(
            lambda: os.kill(raylet, signal.SIGKILL), join=lambda: cluster.add_node(**place)
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
