"""Trains one algorithm and leaves behind a table, a picture, a checkpoint and a record."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_hetero.reporting.checkpoints import Saver, Schedule, save
from rllib_hetero.reporting.lock import locked
from rllib_hetero.reporting.names import as_file_name, env_id, env_name
from rllib_hetero.reporting.progress import (
    ProgressFile,
    clock,
    env_steps_of,
    env_steps_so_far,
    progress_line,
    row_of,
)
from rllib_hetero.reporting.record import record_of, return_convention, write_record
from rllib_hetero.reporting.session import StopSignals, running_ray
from rllib_hetero.reporting.tracking import Tracking


@dataclass(frozen=True)
class RunResult:
    """Where a training's results lie.

    Attributes:
        folder: The run's folder; everything below lies in it.
        csv: `progress.csv`, one row per iteration.
        curve: `curve.png`.
        checkpoint: For `load_policies` and `Algorithm.from_checkpoint`; not there if a signal came
            before the training began.
        episode_return_mean: The latest mean team return; NaN if no episode ended.
        env_steps: Environment steps sampled.
        seconds: Wall-clock seconds of training, those before a resume included.
        stopped_by: The signal that ended the training early; None if none did.
        failed_checkpoints: How many times a checkpoint could not be written; the last one could.
    """

    folder: Path
    csv: Path
    curve: Path
    checkpoint: Path
    episode_return_mean: float
    env_steps: int
    seconds: float = 0.0
    stopped_by: int | None = None
    failed_checkpoints: int = 0


def run_training(
    config: Any,
    *,
    env_steps: int,
    out: Path | str,
    checkpoint_every: int | None = None,
    checkpoint_every_steps: int | None = None,
    track: Iterable[str] = (),
    video_every: int | None = None,
    quiet: bool = False,
    raise_when_stopped: bool = True,
) -> RunResult:
    """Trains until `env_steps` environment steps are sampled.

    Prints a line per iteration. Writes `run.json` (settings, versions) at the start,
    `progress.csv` row by row, `checkpoint/` and `curve.png` at the end. SIGINT (Ctrl-C) or
    SIGTERM ends the training after the current iteration, with checkpoint and curve; a second
    one, and one before the training has begun, ends it at once.

    Args:
        config: The algorithm's config. It is copied, and not changed.
        env_steps: How many environment steps to train for; the last iteration is finished.
        out: The run's folder; made if needed.
        checkpoint_every: Also write the checkpoint after every so many iterations.
        checkpoint_every_steps: Also write it before the first iteration, and after every so many
            environment steps.
        track: Where the numbers go besides `progress.csv`: "tensorboard", "wandb", "mlflow".
        video_every: Film a greedy episode after every so many iterations, into `videos/` and to
            the trackers.
        quiet: Print nothing.
        raise_when_stopped: Whether a signal is raised when all is written. If not, the result
            says so in `stopped_by`.

    Returns:
        Where the results lie.

    Raises:
        FileExistsError: If the folder holds a run already.
        FolderInUseError: If another process writes into it.
        MissingExtraError: If a tracker's library, or what films need, is not installed.
        TeamError: If there is no such tracker, or the environment cannot be filmed.
        KeyboardInterrupt: After SIGINT, when all is written.
        SystemExit: After SIGTERM, when all is written; the exit status is 143.
        Exception: Whatever `algo.train()` raises, or writing the first or the last checkpoint;
            table and last whole checkpoint stay. One in between that fails is a warning.
    """
    folder = Path(out).resolve()
    _refuse_a_run(folder)
    schedule = Schedule(checkpoint_every, checkpoint_every_steps)
    tracking = Tracking(config, track, video_every)
    folder.mkdir(parents=True, exist_ok=True)
    with StopSignals() as stop:
        try:
            with locked(folder):
                _refuse_a_run(folder)  # which may have come and gone meanwhile
                with running_ray(config, stop), algorithm(config.build_algo) as algo:
                    record = record_of(algo, env_steps=env_steps)
                    with tracking.following(folder, record, stop):
                        stop.begin()
                        write_record(record, folder / "run.json")
                        if schedule.steps:  # from now on, the run can be resumed
                            save(algo, folder / "checkpoint")
                        table = ProgressFile(folder / "progress.csv")
                        result = train(algo, table, env_steps, schedule, stop, tracking, quiet)
        except KeyboardInterrupt:
            if not stop.early:
                raise
            result = stopped_early(folder, stop)
    if raise_when_stopped:
        raise_stop(result)
    return result


def _refuse_a_run(folder: Path) -> None:
    if (folder / "progress.csv").exists():
        raise FileExistsError(f"{folder} holds a run already. Choose another `out`.")


@contextmanager
def algorithm(make: Callable[[], Any]) -> Iterator[Any]:
    """Makes an algorithm, and ends its actors however its use ends."""
    algo = make()
    try:
        yield algo
    finally:
        algo.stop()


def stopped_early(folder: Path, stop: StopSignals) -> RunResult:
    """What a run has come to that a signal ended before its first iteration."""
    rows = ProgressFile.rows_of(folder / "progress.csv")  # of before, where it was to be resumed
    return RunResult(
        folder, folder / "progress.csv", folder / "curve.png", folder / "checkpoint",
        rows[-1]["episode_return_mean"] if rows else math.nan,
        int(rows[-1]["env_steps"]) if rows else 0,
        stopped_by=stop.received,
    )  # fmt: skip


def raise_stop(result: RunResult) -> None:
    """Raises what a process does that a signal ends."""
    if result.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    if result.stopped_by is not None:
        raise SystemExit(128 + result.stopped_by)


def free_folder(config: Any) -> Path:
    """results/<algo>-<env>-s<seed>, with a number behind it if that holds a run already."""
    task = env_name(config.env, config.env_config)
    name = as_file_name(f"{config.algo_class.__name__}-{task}-s{config.seed}")
    folder, number = Path("results") / name, 1
    while (folder / "progress.csv").exists():
        number += 1
        folder = Path("results") / f"{name}-{number}"
    return folder


def train(
    algo: Any,
    table: ProgressFile,
    target: int,
    schedule: Schedule,
    stop: StopSignals,
    tracking: Tracking,
    quiet: bool = False,
) -> RunResult:
    """Trains a built algorithm until `target` steps or a signal.

    Args:
        algo: New, or restored from the checkpoint that belongs to the table.
        table: In the run's folder; rows that are there are of this run.
        target: Environment steps, those of the table included.
        schedule: When a checkpoint is written, beside the one at the end.
        stop: Read between iterations.
        tracking: Is told every row.
        quiet: Print nothing.
    """
    say = (lambda text: None) if quiet else _say
    folder = table.path.parent
    convention = return_convention(algo.config)
    say(
        f"{algo.__class__.__name__} on {env_id(algo.config.env)}; {convention}; writing to {folder}"
    )
    checkpoint = folder / "checkpoint"
    iteration, steps = algo.training_iteration, env_steps_so_far(algo)
    first_steps, first_s = steps, table.last["wall_s"] if table.last else 0.0
    saver = Saver(checkpoint, schedule, iteration if schedule.steps or iteration else None)
    now = time.perf_counter()
    start = now - first_s
    while steps < target and stop.received is None:
        before = time.perf_counter()  # after checkpoints and films: they are not slow sampling
        result = algo.train()
        iteration += 1
        now = time.perf_counter()
        new = env_steps_of(result)
        steps, sampled = (steps, 0) if new is None else (new, new - steps)
        row = row_of(
            result, iteration=iteration, env_steps=steps, wall_s=now - start,
            steps_per_s=sampled / (now - before),
        )  # fmt: skip
        table.write(row)
        trained, took = steps - first_steps, now - start - first_s
        left = (target - steps) * took / trained if trained else math.inf
        say(progress_line(row, target=target, left_s=left))
        saver.after(algo, iteration, steps - sampled, steps)
        tracking.log(row, algo)
    saver.at_the_end(algo, iteration)
    table.complete()
    latest = table.latest_return
    result = RunResult(
        folder, table.path, folder / "curve.png", checkpoint, latest, steps,
        seconds=now - start, stopped_by=stop.received, failed_checkpoints=saver.failures,
    )  # fmt: skip
    if iteration:
        _draw(algo, result)
    ended = "stopped by a signal" if stop.received is not None else "done"
    what = "no episode ended" if math.isnan(latest) else f"team return {latest:.2f} ({convention})"
    say(f"{ended} after {steps:,} steps, {clock(now - start)}: {what}")
    if iteration:
        say(f"  curve      {result.curve}")
    say(f"  checkpoint {checkpoint}")
    return result


def _say(text: str) -> None:
    with suppress(OSError):  # where the output goes to a full disk, or to nobody any more
        print(text, flush=True)


def _draw(algo: Any, result: RunResult) -> None:
    # Here, so that `python -m rllib_hetero.reporting.curve` finds its module not yet imported.
    from rllib_hetero.reporting.curve import read_column, save_curves

    points = len(read_column(result.csv, "episode_return_mean")[0])
    name, config = algo.__class__.__name__, algo.config
    save_curves(
        {name: [result.csv]},
        result.curve,
        title=f"{name}, {env_name(config.env, config.env_config)}, seed {config.seed}",
        window=points // 20 | 1,  # odd, so centred
    )
