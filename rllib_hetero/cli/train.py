"""The command `train`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_hetero.cli.ending import DONE, FAILED, InputError, after_signal, print_result
from rllib_hetero.cli.request import make_config
from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.lock import FolderInUseError
from rllib_hetero.reporting.names import env_id, env_name
from rllib_hetero.reporting.run import RunResult, free_folder, run_training
from rllib_hetero.reporting.session import StoppedAtOnce
from rllib_hetero.reporting.tracking import Tracking
from rllib_hetero_cli.parser import CHECKPOINTS


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    config = make_config(args)
    folder = (args.out or free_folder(config)).resolve()
    if (folder / "progress.csv").exists():
        raise InputError(
            f"{folder} holds a run already. Go on with it (`resume {folder}`), or give another "
            "--out."
        )
    try:
        Tracking(config, args.track, args.video_every)
    except (ImportError, TeamError) as problem:
        raise InputError(str(problem)) from problem
    about = {
        "algo": config.algo_class.__name__,
        "env": env_id(config.env),
        "task": env_name(config.env, config.env_config),
    }
    return end_of(
        about,
        folder,
        lambda: run_training(
            config,
            env_steps=args.env_steps,
            out=folder,
            checkpoint_every_steps=args.checkpoint_every or max(1, args.env_steps // CHECKPOINTS),
            track=args.track,
            video_every=args.video_every,
            raise_when_stopped=False,
        ),
    )


def end_of(about: dict[str, Any], folder: Path, training: Callable[[], RunResult]) -> int:
    """Trains, prints the result line, and returns the exit code."""
    checkpoint = folder / "checkpoint"
    try:
        result = training()
    except (FolderInUseError, FileExistsError) as problem:
        raise InputError(str(problem)) from None
    except (Exception, StoppedAtOnce) as problem:
        error = f"{type(problem).__name__}: {problem}".splitlines()[0]
        if isinstance(problem, StoppedAtOnce):
            error = "a second signal ended it at once, unsaved"
        else:
            traceback.print_exc()
            sys.stderr.flush()
        kept = str(checkpoint) if checkpoint.exists() else None
        print_result({**about, "checkpoint": kept, "status": "failed", "error": error})
        return FAILED
    stopped = result.stopped_by is not None
    print_result(
        {
            **about,
            "env_steps": result.env_steps,
            "return": result.episode_return_mean,
            # None where a signal came before the training began.
            "checkpoint": str(result.checkpoint) if result.checkpoint.exists() else None,
            "failed_checkpoints": result.failed_checkpoints,
            "seconds": round(result.seconds, 1),
            "status": "stopped" if stopped else "done",
        }
    )
    return DONE if result.stopped_by is None else after_signal(result.stopped_by)
