"""The command line of `check_env`: python -m rllib_hetero.checking NAME '{"key": 1}'.

Prints the report. The exit status is 1 if there are errors.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rllib_hetero.checking.check import check_env


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks the environment that the command line names.

    Args:
        arguments: What follows the command; `sys.argv` if None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rllib_hetero.checking",
        description="Checks an environment before it is trained on.",
    )
    add_arguments(parser)
    return check(parser.parse_args(arguments), parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("name", help='a registered name ("mpe"), or "module:Class" to import')
    parser.add_argument("env_config", nargs="?", default="{}", help="its configuration, as JSON")
    parser.add_argument("--steps", type=int, default=1000, help="length of the first rollout")
    parser.add_argument("--seconds", type=float, default=20.0, help="roughly how long it may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-envs", type=int, default=3, help="environments side by side")
    parser.add_argument(
        "--stochastic", action="store_true", help="equal seeds need not give equal episodes"
    )


def check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Checks, prints the report, and returns the exit status.

    Args:
        options: What the command line says.
        parser: Tells what is wrong with it.
    """
    try:
        env_config = json.loads(options.env_config)
    except json.JSONDecodeError as problem:
        parser.error(f"the configuration is not JSON: {problem}")
    if not isinstance(env_config, dict):
        parser.error("the configuration must be a JSON object, in braces")
    report = check_env(
        _named(options.name, parser),
        env_config,
        steps=options.steps,
        seconds=options.seconds,
        seed=options.seed,
        num_envs=options.num_envs,
        deterministic=False if options.stochastic else None,
    )
    print(report)
    return 0 if report.ok else 1


def _named(name: str, parser: argparse.ArgumentParser) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon:
        return name
    # As for `python -m`: modules of the working folder can be named.
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        parser.error(f"{name!r} cannot be imported: {problem}")
