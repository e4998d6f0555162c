"""A run's checkpoint on disk: whole or not there, whenever the process or the disk ends."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def save(algo: Any, path: Path) -> None:
    """Writes beside the previous checkpoint, then swaps; a crash leaves one of them whole.

    Raises:
        Exception: Whatever writing raises, a full disk included. What was written so far is
            removed, and the previous checkpoint stays.
    """
    settle(path)
    new, old = _beside(path)
    try:
        algo.save_to_path(str(new))
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


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".old")
