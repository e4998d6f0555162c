"""What a tracker is: something that is told how a run goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from rllib_hetero.reporting.progress import Row


class Tracker(ABC):
    """Sends a run's numbers to a library that keeps and draws them.

    Made before Ray starts, so that what is missing is told at once; `start` follows when the
    algorithm is built.

    Raises:
        MissingExtraError: When made, if the library is not installed.

    Attributes:
        video_suffix: The kind of video it can show (".gif"); None for any.
    """

    video_suffix: ClassVar[str | None] = None

    @abstractmethod
    def start(self, folder: Path, record: dict[str, Any], earlier: str | None) -> str | None:
        """Begins a run.

        Args:
            folder: The run's.
            record: What `run.json` holds: plain data, without credentials.
            earlier: What `start` returned before a resume; None for a new run.

        Returns:
            The library's name for the run, with which a resumed run goes on; None if it needs
            none.
        """

    @abstractmethod
    def log(self, row: Row) -> None:
        """Takes the finite numbers of one row of `progress.csv`, among them `env_steps`."""

    @abstractmethod
    def log_video(self, path: Path, row: Row) -> None:
        """Takes a video of an episode, and the row of the iteration that it was made after."""

    @abstractmethod
    def end(self, status: str) -> None:
        """Ends the run: "done", "stopped" (by a signal) or "failed"."""
