"""Weights & Biases: online, or offline into the run's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rllib_hetero.errors import MissingExtraError
from rllib_hetero.reporting.progress import Row
from rllib_hetero.reporting.tracking.tracker import Tracker

PROJECT = "rllib_hetero"


class WandbTracker(Tracker):
    """A run of wandb's. Its environment variables decide the rest: `WANDB_MODE`, `WANDB_ENTITY`."""

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("wandb", extra="wandb") from error
        self._wandb = wandb
        self._run: Any = None

    def start(self, folder: Path, record: dict[str, Any], earlier: str | None) -> str | None:
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", folder.name),
            id=earlier,
            resume="allow" if earlier else None,
            dir=str(folder),
            config=record,
            tags=[str(record["algorithm"]), str(record["env"])],
            reinit="create_new",  # a run that the user has open stays as it is
            settings=self._wandb.Settings(
                # By default wandb takes along all that is printed, and the working folder's git
                # remote and uncommitted changes. run.json has the commit of this package.
                console="off",
                disable_git=True,
                save_code=False,
            ),
        )
        self._run.define_metric("env_steps")
        self._run.define_metric("*", step_metric="env_steps")
        return str(self._run.id)

    def log(self, row: Row) -> None:
        self._run.log(dict(row))

    def log_video(self, path: Path, row: Row) -> None:
        video = self._wandb.Video(str(path))
        self._run.log({"episode": video, "env_steps": row["env_steps"]})

    def end(self, status: str) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=1 if status == "failed" else 0)
