"""The command `list`."""

from __future__ import annotations

import argparse

from rllib_hetero import ALGORITHMS
from rllib_hetero.cli.ending import DONE
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero.installing import extras, install_command


def run(args: argparse.Namespace) -> int:
    """Prints what there is, and returns the exit code."""
    print(f"algorithms    {', '.join(sorted(ALGORITHMS))}")
    print(f"environments  {', '.join(ENVIRONMENTS)}")
    for name, installed in sorted(extras().items()):
        how = "installed" if installed else install_command(name)
        print(f"extra  {name:<12} {how}")
    return DONE
