"""Reads the command line and hands over to the library."""

from __future__ import annotations

from collections.abc import Sequence

from rllib_hetero_cli.parser import make_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What follows the command's name; `sys.argv` if None.

    Returns:
        The exit code: 0 done, 2 bad input, 3 failed, 128 + n ended by signal n with a checkpoint.
        `check` returns 1 where it finds errors.
    """
    args = make_parser().parse_args(arguments)
    from rllib_hetero.cli.commands import run  # seconds, and not needed until here

    return run(args)
