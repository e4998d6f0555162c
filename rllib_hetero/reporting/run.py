"""Trains one algorithm and leaves behind a table, a picture, a checkpoint and a record."""

from __future__ import annotations

import math
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_hetero.reporting.progress import (
    ProgressFile,
    clock,
    env_steps_of,
    progress_line,
    row_of,
)
from rllib_hetero.reporting.record import return_convention, write_record
from rllib_hetero.reporting.session import StopSignals, running_ray


@dataclass(frozen=True)
class RunResult:
    """Where a training's results lie.

    Attributes:
        folder: The run's folder; everything below lies in it.
        csv: `progress.csv`, one row per iteration.
        curve: `curve.png`.
        checkpoint: For `load_policies` and `Algorithm.from_checkpoint`.
        episode_return_mean: The latest mean team return; NaN if no episode ended.
        env_steps: Environment steps sampled.
    """

    folder: Path
    csv: Path
    curve: Path
    checkpoint: Path
    episode_return_mean: float
    env_steps: int


def run_training(
    config: Any,
    *,
    env_steps: int,
    out: Path | str,
    checkpoint_every: int | None = None,
    quiet: bool = False,
) -> RunResult:
    """Trains until `env_steps` environment steps are sampled.

    Prints a line per iteration. Writes `run.json` (settings, versions) at the start,
    `progress.csv` row by row, `checkpoint/` and `curve.png` at the end. SIGINT (Ctrl-C) or
    SIGTERM ends the training after the current iteration, with checkpoint and curve; a second
    one ends it at once.

    Args:
        config: The algorithm's config. It is copied, and not changed.
        env_steps: How many environment steps to train for; the last iteration is finished.
        out: The run's folder; made if needed.
        checkpoint_every: Also write the checkpoint after every so many iterations.
        quiet: Print nothing.

    Returns:
        Where the results lie.

    Raises:
        FileExistsError: If the folder holds a run already.
        KeyboardInterrupt: After SIGINT, when all is written.
        SystemExit: After SIGTERM, when all is written; the exit status is 143.
        Exception: Whatever `algo.train()` raises; table and last checkpoint stay.
    """
    folder = Path(out).resolve()
    if (folder / "progress.csv").exists():
        raise FileExistsError(f"{folder} holds a run already. Choose another `out`.")
    folder.mkdir(parents=True, exist_ok=True)
    with running_ray(config), StopSignals() as stop:
        algo = config.build_algo()
        try:
            write_record(algo, folder / "run.json", env_steps=env_steps)
            result = _train(algo, folder, env_steps, checkpoint_every, stop, quiet)
        finally:
            algo.stop()
    if stop.received == signal.SIGINT:
        raise KeyboardInterrupt
    if stop.received is not None:
        raise SystemExit(128 + stop.received)
    return result


def env_name(config: Any) -> str:
    """What is trained on, by its settings ("HalfCheetah-6x1", "3m"), or as Ray calls it."""
    options = config.env_config or {}
    given = [
        str(options[key]) for key in ("scenario", "game", "map", "agent_conf") if key in options
    ]
    return "-".join(given) or str(config.env)


def _train(
    algo: Any, folder: Path, target: int, every: int | None, stop: StopSignals, quiet: bool
) -> RunResult:
    say = (lambda *a: None) if quiet else (lambda *a: print(*a, flush=True))
    convention = return_convention(algo.config)
    say(f"{algo.__class__.__name__} on {algo.config.env}; {convention}; writing to {folder}")
    table = ProgressFile(folder / "progress.csv")
    checkpoint = folder / "checkpoint"
    latest = math.nan
    iteration = steps = saved = 0
    start = before = time.perf_counter()
    while steps < target and stop.received is None:
        result = algo.train()
        iteration += 1
        now = time.perf_counter()
        new = env_steps_of(result)
        steps, sampled = (steps, 0) if new is None else (new, new - steps)
        row = row_of(
            result, iteration=iteration, env_steps=steps, wall_s=now - start,
            steps_per_s=sampled / (now - before),
        )  # fmt: skip
        before = now
        table.write(row)
        if not math.isnan(row["episode_return_mean"]):
            latest = row["episode_return_mean"]
        left = (target - steps) * (now - start) / steps if steps else math.inf
        say(progress_line(row, target=target, left_s=left))
        if every and iteration % every == 0:
            _save(algo, checkpoint)
            saved = iteration
    if saved != iteration or iteration == 0:
        _save(algo, checkpoint)
    result = RunResult(folder, table.path, folder / "curve.png", checkpoint, latest, steps)
    if iteration:
        _draw(algo, result)
    ended = "stopped by a signal" if stop.received is not None else "done"
    what = "no episode ended" if math.isnan(latest) else f"team return {latest:.2f} ({convention})"
    say(f"{ended} after {steps:,} steps, {clock(time.perf_counter() - start)}: {what}")
    if iteration:
        say(f"  curve      {result.curve}")
    say(f"  checkpoint {checkpoint}")
    return result


def _draw(algo: Any, result: RunResult) -> None:
    # Here, so that `python -m rllib_hetero.reporting.curve` finds its module not yet imported.
    from rllib_hetero.reporting.curve import read_column, save_curves

    points = len(read_column(result.csv, "episode_return_mean")[0])
    name = algo.__class__.__name__
    save_curves(
        {name: [result.csv]},
        result.curve,
        title=f"{name}, {env_name(algo.config)}, seed {algo.config.seed}",
        window=points // 20 | 1,  # odd, so centred
    )


def _save(algo: Any, path: Path) -> None:
    """Writes beside the previous checkpoint, then swaps; a crash leaves one of them whole."""
    new, old = path.with_name(path.name + ".new"), path.with_name(path.name + ".old")
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)
    algo.save_to_path(str(new))
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)
