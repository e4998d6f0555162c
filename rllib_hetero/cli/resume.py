"""The command `resume`."""

from __future__ import annotations

import argparse

from rllib_hetero.cli.ending import InputError
from rllib_hetero.cli.train import end_of
from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.lock import locked
from rllib_hetero.reporting.names import env_name
from rllib_hetero.reporting.resume import read_record, resume_training
from rllib_hetero_cli.parser import CHECKPOINTS


def run(args: argparse.Namespace) -> int:
    """Goes on; returns the exit code."""
    folder = args.folder.resolve()
    try:
        record = read_record(folder)
        with locked(folder):  # what a crash left half done is settled, and not what goes on
            read_record(folder, needs_checkpoint=True)
    except TeamError as problem:
        raise InputError(str(problem)) from None
    about = {
        "algo": record["algorithm"],
        "env": record["env"],
        "task": env_name(record["env"], record["env_config"]),
    }
    target = args.env_steps or record["target_env_steps"]
    return end_of(
        about,
        folder,
        lambda: resume_training(
            folder,
            env_steps=target,
            checkpoint_every_steps=args.checkpoint_every or max(1, target // CHECKPOINTS),
            raise_when_stopped=False,
        ),
    )
