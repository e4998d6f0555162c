"""The command `check`. Ray is not started."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from rllib_hetero.checking import check_env
from rllib_hetero.cli.ending import DONE, InputError

FOUND_ERRORS = 1


def run(args: argparse.Namespace) -> int:
    """Checks, prints the report, and returns the exit code."""
    report = check_env(
        _named(args.name),
        args.env_config,
        steps=args.steps,
        seconds=args.seconds,
        seed=args.seed,
        num_envs=args.num_envs,
        deterministic=False if args.stochastic else None,
    )
    print(report)
    return DONE if report.ok else FOUND_ERRORS


def _named(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon:
        return name
    # As for `python -m`: modules of the working folder can be named.
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise InputError(f"{name!r} cannot be imported: {problem}") from None
