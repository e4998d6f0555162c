"""A run's checkpoint on disk: whole or not there, whenever the process or the disk ends."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RETRY_S = 60.0

logger = logging.getLogger(__name__)


def save(algo: Any, path: Path) -> None:
    """Writes beside the previous checkpoint, then swaps; a crash leaves one of them whole.

    Raises:
        Exception: Whatever writing raises, a full disk included. What was written so far is
            removed, and the previous checkpoint stays.
    """
    settle(path)
    new, old = _beside(path)
    try:
        algo.save_to_path(str(new), previous=str(path))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)  # on a full disk, the room it took
        raise
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def settle(path: Path) -> bool:
    """Ends what a crash in `save` left half done. Returns whether there is a checkpoint."""
    new, old = _beside(path)
    if not path.exists() and old.exists():
        # The old one moves away only when the new one is whole.
        (new if new.exists() else old).rename(path)
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)
    return path.exists()


@dataclass
class Schedule:
    """When a checkpoint is due: every so many iterations, every so many steps, or both.

    Attributes:
        iterations: None for never.
        steps: Environment steps; None for never.
    """

    iterations: int | None = None
    steps: int | None = None

    def __bool__(self) -> bool:
        return bool(self.iterations or self.steps)

    def due(self, iteration: int, before: int, after: int) -> bool:
        """Whether one is due after an iteration that went `before` to `after` steps."""
        by_iteration = self.iterations and iteration % self.iterations == 0
        by_steps = self.steps and after // self.steps > before // self.steps
        return bool(by_iteration or by_steps)


class Saver:
    """Writes the checkpoints of a training under way, and survives one that fails.

    A disk that is full for an hour must not end a training of weeks. A failure is a warning; the
    checkpoint is tried again after a minute, at the end of an iteration.

    Args:
        path: The checkpoint's.
        schedule: When one is due.
        saved: The iteration that the checkpoint on disk is of; None if there is none.

    Attributes:
        failures: How many times writing failed.
    """

    def __init__(self, path: Path, schedule: Schedule, saved: int | None) -> None:
        self.failures = 0
        self._path = path
        self._schedule = schedule
        self._saved = saved
        self._retry_at: float | None = None

    def after(self, algo: Any, iteration: int, before: int, after: int) -> None:
        """Saves if a checkpoint is due after an iteration that went `before` to `after` steps."""
        again = self._retry_at is not None and time.monotonic() >= self._retry_at
        if not (again or self._schedule.due(iteration, before, after)):
            return
        try:
            save(algo, self._path)
        except Exception as problem:  # torch tells of a full disk by a RuntimeError
            self.failures += 1
            self._retry_at = time.monotonic() + RETRY_S
            kept = "there is none yet" if self._saved is None else f"iteration {self._saved}"
            logger.warning(
                "The checkpoint was NOT written: %s: %s\nThe training goes on and tries again. "
                "Until then a crash goes back to the last whole one (%s).",
                type(problem).__name__, problem, kept,
            )  # fmt: skip
        else:
            self._saved, self._retry_at = iteration, None

    def at_the_end(self, algo: Any, iteration: int) -> None:
        """Saves unless the checkpoint is of this iteration already; raises what `save` does."""
        if self._saved != iteration:
            save(algo, self._path)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".old")
