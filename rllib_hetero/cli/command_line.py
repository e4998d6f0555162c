"""Reads the command line and hands over to the command it names."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence

from rllib_hetero.cli import about, evaluate, report, resume, train, tune
from rllib_hetero.cli.ending import (
    BAD_INPUT,
    FAILED,
    InputError,
    after_signal,
    print_result,
)
from rllib_hetero.installing import version
from rllib_hetero.reporting.redaction import without_secrets
from rllib_hetero.reporting.session import StopSignals

COMMANDS = (train, tune, resume, evaluate, report, about)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What follows the command's name; `sys.argv` if None.

    Returns:
        The exit code: 0 done, 2 bad input, 3 failed, 128 + n ended by signal n with a checkpoint.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rllib_hetero",
        description="Trains, tunes, resumes, evaluates and compares multi-agent policies.",
        epilog="Exit codes: 0 done, 2 bad input, 3 failed, 128 + n after signal n.",
    )
    parser.add_argument("--version", action="version", version=f"rllib_hetero {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    args = parser.parse_args(arguments)
    with StopSignals() as stop:
        return _run(args, stop)


def _run(args: argparse.Namespace, stop: StopSignals) -> int:
    try:
        return args.run(args)
    except InputError as problem:
        print(f"error: {without_secrets(str(problem))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        # Before there is anything to save. What there is, the command itself ends in order.
        print_result({"status": "stopped"})
        return after_signal(stop.received or signal.SIGINT)
    except Exception as problem:
        traceback.print_exc()
        sys.stderr.flush()
        print_result({"status": "failed", "error": f"{type(problem).__name__}: {problem}"})
        return FAILED
