"""The commands `list` and `check`."""

from __future__ import annotations

import argparse
from typing import Any

from rllib_hetero.checking import command_line as checking
from rllib_hetero.cli.ending import DONE
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero.installing import extras, install_command


def add_to(commands: Any) -> None:
    """Adds the commands and their arguments."""
    parser = commands.add_parser("list", help="what there is: algorithms, environments, extras")
    parser.set_defaults(run=tell)
    parser = commands.add_parser("check", help="check an environment before it is trained on")
    checking.add_arguments(parser)
    parser.set_defaults(run=lambda args: checking.check(args, parser))


def tell(args: argparse.Namespace) -> int:
    """Prints what there is, and returns the exit code."""
    from rllib_hetero import ALGORITHMS

    print(f"algorithms    {', '.join(sorted(ALGORITHMS))}")
    print(f"environments  {', '.join(ENVIRONMENTS)}")
    for name, installed in sorted(extras().items()):
        how = "installed" if installed else install_command(name)
        print(f"extra  {name:<12} {how}")
    return DONE
