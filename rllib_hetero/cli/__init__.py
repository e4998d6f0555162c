"""The command line: train, tune, resume, evaluate, report."""

from rllib_hetero.cli.command_line import main

__all__ = ["main"]
