"""What the commands of `rllib-hetero` do; what they take is in `rllib_hetero_cli`."""

from rllib_hetero_cli import main

__all__ = ["main"]
