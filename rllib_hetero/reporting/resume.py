"""Goes on with a run from its folder. Unpickles the checkpoint: only for runs you trust."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.checkpoints import Schedule, settle
from rllib_hetero.reporting.lock import locked
from rllib_hetero.reporting.progress import ProgressFile, env_steps_so_far
from rllib_hetero.reporting.record import parsed_record, versions_and_commit, write_record
from rllib_hetero.reporting.run import (
    RunResult,
    algorithm,
    raise_stop,
    stopped_early,
    train,
)
from rllib_hetero.reporting.session import StopSignals, running_ray
from rllib_hetero.reporting.tracking import Tracking


def resume_training(
    folder: Path | str,
    *,
    env_steps: int | None = None,
    checkpoint_every: int | None = None,
    checkpoint_every_steps: int | None = None,
    quiet: bool = False,
    raise_when_stopped: bool = True,
) -> RunResult:
    """Goes on with a run of `run_training` from its last checkpoint: same settings, same trackers.

    Rows of `progress.csv` after that checkpoint are removed: these steps are trained again. What
    the resume was done with is added to `run.json`, under "resumed".

    Args:
        folder: The run's.
        env_steps: Environment steps in all, those before the resume included; None for what the
            run was started with.
        checkpoint_every: As of `run_training`.
        checkpoint_every_steps: As of `run_training`, from the resume on.
        quiet: Print nothing.
        raise_when_stopped: As of `run_training`.

    Returns:
        Where the results lie. A run that has all its steps is left as it is.

    Raises:
        TeamError: If the folder holds no run, or a run without a checkpoint.
        FolderInUseError: If another process writes into it: the run goes on still.
    """
    folder = Path(folder).resolve()
    read_record(folder)
    with StopSignals() as stop:
        try:
            with locked(folder):
                # As whoever had the lock before has left it.
                record = read_record(folder, needs_checkpoint=True)
                checkpoint = folder / "checkpoint"
                target = env_steps or record["target_env_steps"]
                schedule = Schedule(checkpoint_every, checkpoint_every_steps)
                config = _config(checkpoint)
                tracking = Tracking.of_record(config, record)
                restore = partial(Algorithm.from_checkpoint, str(checkpoint))
                with running_ray(config, stop), algorithm(restore) as algo:
                    path = folder / "progress.csv"
                    lost = _last_steps(path) - env_steps_so_far(algo)
                    _note(record, algo, target, lost)
                    with tracking.following(folder, record, stop):
                        stop.begin()
                        if not quiet:
                            print(_where(algo, lost), flush=True)
                        write_record(record, folder / "run.json")
                        table = ProgressFile.reopened(path, iterations=algo.training_iteration)
                        result = train(algo, table, target, schedule, stop, tracking, quiet)
        except KeyboardInterrupt:
            if not stop.early:
                raise
            result = stopped_early(folder, stop)
    if raise_when_stopped:
        raise_stop(result)
    return result


def read_record(folder: Path, *, needs_checkpoint: bool = False) -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        TeamError: If the folder holds no run, `run.json` is not what a run writes, or the
            checkpoint that is needed is not there.
    """
    try:
        record = parsed_record(folder)
    except FileNotFoundError:
        raise TeamError(
            f"{folder} holds no run: run.json is missing. Give the folder that "
            "`rllib-hetero train --out FOLDER` wrote."
        ) from None
    if needs_checkpoint and not settle(folder / "checkpoint"):
        raise TeamError(
            f"The run in {folder} ended before its first checkpoint: there is nothing to go on "
            "from. Start it anew in another folder."
        )
    return record


def _config(checkpoint: Path) -> AlgorithmConfig:
    """What the checkpoint's algorithm will be built with; Ray is started to fit it."""
    pickled = (checkpoint / Algorithm.CLASS_AND_CTOR_ARGS_FILE_NAME).read_bytes()
    (state, *_), _ = ray.cloudpickle.loads(pickled)["ctor_args_and_kwargs"]
    return AlgorithmConfig.from_state(state)


def _last_steps(path: Path) -> int:
    rows = ProgressFile.rows_of(path)
    return int(rows[-1]["env_steps"]) if rows else 0


def _where(algo: Any, lost: int) -> str:
    steps = env_steps_so_far(algo)
    again = f"; {lost:,} steps after it are trained again" if lost > 0 else ""
    return f"going on from the checkpoint at {steps:,} steps{again}"


def _note(record: dict[str, Any], algo: Any, target: int, lost: int) -> None:
    """Adds this resume to the run's record."""
    resumed = {
        "env_steps": env_steps_so_far(algo),
        "iteration": algo.training_iteration,
        "lost_env_steps": max(lost, 0),
        **versions_and_commit(),
    }
    record["target_env_steps"] = target
    record.setdefault("resumed", []).append(resumed)
