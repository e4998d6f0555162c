"""The command `train`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_hetero.cli.ending import DONE, FAILED, InputError, after_signal, print_result
from rllib_hetero.cli.request import json_object, make_config
from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.lock import FolderInUseError
from rllib_hetero.reporting.names import env_id, env_name
from rllib_hetero.reporting.run import RunResult, free_folder, run_training
from rllib_hetero.reporting.session import StoppedAtOnce
from rllib_hetero.reporting.tracking import TRACKERS, Tracking

ENV_STEPS = 1_000_000
CHECKPOINTS = 20  # in a run, unless --checkpoint-every says otherwise


def add_to(commands: Any) -> None:
    """Adds the command and its arguments."""
    parser = commands.add_parser("train", help="train an algorithm on an environment")
    parser.set_defaults(run=run)
    parser.add_argument("--algo", help="HAPPO, MAPPO, ...")
    parser.add_argument("--env", help='a ready-made one ("mpe"), or "module:Class" to import')
    parser.add_argument("--env-config", type=json_object, metavar="JSON")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="sections as .yaml, or a .py, which is executed"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="one setting, over the file's: training.lr=3e-4",
    )  # fmt: skip
    parser.add_argument("--env-steps", type=count, default=ENV_STEPS)
    parser.add_argument("--out", type=Path, help="the run's folder; default: results/<run>/")
    parser.add_argument("--seed", type=int)
    add_checkpoint_every(parser)
    parser.add_argument(
        "--track", action="append", default=[], choices=list(TRACKERS),
        help="also send the numbers there; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--video-every", type=count, metavar="ITERATIONS", help="film an episode; default: never"
    )


def add_checkpoint_every(parser: argparse.ArgumentParser) -> None:
    """The argument --checkpoint-every."""
    parser.add_argument(
        "--checkpoint-every", type=count, metavar="STEPS",
        help=f"environment steps between checkpoints; default: {CHECKPOINTS} in a run",
    )  # fmt: skip


def count(text: str) -> int:
    """For argparse: a whole number from 1 on; "1e6" is one."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if number < 1 or number != int(number):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(number)


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
