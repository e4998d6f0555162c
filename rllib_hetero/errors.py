"""Errors that a user can mend. Every message names the setting or the call that does it."""

from __future__ import annotations

from rllib_hetero.installing import install_command


class TeamError(ValueError):
    """The environment or the configuration does not describe a team that can be trained."""


class TeamDataError(TeamError):
    """An environment broke its own description: spaces, agents, or finite numbers.

    Raised in the driver, never inside a remote runner: a runner that raises is restarted by
    Ray, and an environment that returns NaN would then be restarted for ever.
    """


class NonFiniteUpdateError(TeamError):
    """A loss or a gradient is NaN or infinite. Raised before the optimiser's step."""


class MissingExtraError(ImportError):
    """An optional package is not installed. The message holds the command that installs it."""

    def __init__(self, what: str, *, extra: str, system: str | None = None) -> None:
        message = (
            f"{what} is not installed. It belongs to rllib_hetero[{extra}]; install it with: "
            f"{install_command(extra)}"
        )
        if system:
            message += f"\nIt also needs these system packages: {system}"
        super().__init__(message)
