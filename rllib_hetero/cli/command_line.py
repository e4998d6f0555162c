"""Reads the command line and hands over to the command it names."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from rllib_hetero.cli import evaluate, report, resume, train, tune
from rllib_hetero.cli.ending import BAD_INPUT, FAILED, InputError, print_result

COMMANDS = (train, tune, resume, evaluate, report)


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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    args = parser.parse_args(arguments)
    try:
        return args.run(args)
    except InputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return BAD_INPUT
    except (Exception, KeyboardInterrupt) as problem:
        # KeyboardInterrupt: a second signal, which asks for an end at once and unsaved.
        traceback.print_exc()
        sys.stderr.flush()
        print_result({"status": "failed", "error": f"{type(problem).__name__}: {problem}"})
        return FAILED
