"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rllib_hetero.errors import MissingExtraError
from rllib_hetero.reporting.progress import Row
from rllib_hetero.reporting.tracking.tracker import Tracker

FOLDER = "tensorboard"


class TensorBoardTracker(Tracker):
    """Writes with tensorboardX, which RLlib brings; only looking at it needs TensorBoard itself."""

    # A moving picture is one that TensorBoard is handed as a GIF, unlike any other video.
    video_suffix = ".gif"

    def __init__(self) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise MissingExtraError("tensorboardX", extra="tensorboard") from error
        self._library = tensorboardX
        self._writer: Any = None

    def start(self, folder: Path, record: dict[str, Any], earlier: str | None) -> str | None:
        # Rows after the checkpoint are gone from the table: a resume takes them off the curves.
        purge = record["resumed"][-1]["env_steps"] + 1 if earlier else None
        self._writer = self._library.SummaryWriter(str(folder / FOLDER), purge_step=purge)
        # Four spaces in front make Markdown leave it as it is.
        lines = json.dumps(record, indent=2).splitlines()
        self._writer.add_text("run", "\n".join(f"    {line}" for line in lines))
        return FOLDER

    def log(self, row: Row) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, int(row["env_steps"]))
        self._writer.flush()  # a process that is killed leaves what was logged

    def log_video(self, path: Path, row: Row) -> None:
        import imageio.v2 as imageio
        from tensorboardX.proto.summary_pb2 import Summary

        height, width = imageio.imread(path).shape[:2]
        picture = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        # tensorboardX's own add_video makes a GIF out of frames, with yet another package.
        self._writer.file_writer.add_summary(
            Summary(value=[Summary.Value(tag="episode", image=picture)]), int(row["env_steps"])
        )
        self._writer.flush()

    def end(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()
