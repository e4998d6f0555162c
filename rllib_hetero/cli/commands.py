"""The commands, and how they end."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable

from rllib_hetero.cli import check, evaluate, listing, report, resume, train, tune
from rllib_hetero.cli.ending import (
    BAD_INPUT,
    FAILED,
    InputError,
    after_signal,
    print_result,
)
from rllib_hetero.known_messages import hidden_unless
from rllib_hetero.reporting.redaction import without_secrets
from rllib_hetero.reporting.session import StopSignals

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": train.run,
    "tune": tune.run,
    "resume": resume.run,
    "evaluate": evaluate.run,
    "report": report.run,
    "list": listing.run,
    "check": check.run,
}


def run(args: argparse.Namespace) -> int:
    """Runs the command that the arguments name, and returns the exit code."""
    with hidden_unless(args.all_warnings), StopSignals() as stop:
        return ending_well(lambda: COMMANDS[args.command](args), stop)


def ending_well(command: Callable[[], int], stop: StopSignals) -> int:
    """Runs a command and returns the exit code, whatever it raises."""
    try:
        return command()
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
