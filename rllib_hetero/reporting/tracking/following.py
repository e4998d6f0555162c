"""Follows a training: hands its rows and films to the trackers."""

from __future__ import annotations

import difflib
import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.films import Films
from rllib_hetero.reporting.progress import Row
from rllib_hetero.reporting.redaction import without_secrets
from rllib_hetero.reporting.session import StopSignals
from rllib_hetero.reporting.tracking.mlflow_runs import MLflowTracker
from rllib_hetero.reporting.tracking.tensorboard import TensorBoardTracker
from rllib_hetero.reporting.tracking.tracker import Tracker
from rllib_hetero.reporting.tracking.weights_and_biases import WandbTracker

TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "mlflow": MLflowTracker,
}
"""What `track` may name."""

RECORDED = "tracking"
"""The key of `run.json` under which a resumed run finds its trackers."""

logger = logging.getLogger(__name__)


class Tracking:
    """The trackers and films of one run.

    A tracker that raises while the training goes on is left out from then on, with a warning:
    `progress.csv` has every row. The training's random numbers are the same with and without.

    Args:
        config: The training's.
        track: Names of `TRACKERS`.
        video_every: Iterations between films; None for no films.

    Raises:
        MissingExtraError: If a library is not installed.
        TeamError: If there is no such tracker, or the environment cannot be filmed.
    """

    def __init__(
        self, config: Any, track: Iterable[str] = (), video_every: int | None = None
    ) -> None:
        self._trackers = {name: _class_of(name)() for name in _names(track)}
        self._films: Films | None = None
        if video_every is not None:
            kinds = {t.video_suffix for t in self._trackers.values()} - {None}
            with undisturbed():
                self._films = Films(config, video_every, suffix=next(iter(kinds), None))
        self._earlier: Mapping[str, str | None] = {}
        self._folder = Path()

    @classmethod
    def of_record(cls, config: Any, record: Mapping[str, Any]) -> Tracking:
        """As the run was tracked that `run.json` is of."""
        known = record.get(RECORDED, {})
        earlier = known.get("trackers", {})
        tracking = cls(config, earlier, known.get("video_every"))
        tracking._earlier = earlier
        return tracking

    @contextmanager
    def following(self, folder: Path, record: dict[str, Any], stop: StopSignals) -> Iterator[None]:
        """Around a training. Adds to the record what a resume needs to know.

        Args:
            folder: The run's.
            record: What `run.json` is to hold.
            stop: Tells at the end whether a signal ended the training.

        Raises:
            Exception: Whatever a library raises when a run begins: no key, no such server.
        """
        self._folder = folder
        names = {}
        with undisturbed():
            for name, tracker in self._trackers.items():
                names[name] = tracker.start(folder, record, self._earlier.get(name))
        if self._trackers or self._films:
            every = self._films.every if self._films else None
            record[RECORDED] = {"trackers": names, "video_every": every}
        try:
            yield
        except BaseException:
            self._to_each("end", "failed")
            raise
        self._to_each("end", "done" if stop.received is None else "stopped")

    def log(self, row: Row, algo: Any) -> None:
        """Takes the row of an iteration that has just ended."""
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        self._to_each("log", finite)
        films = self._films
        due = films is not None and films.due(int(row["iteration"]))
        if due and not _survives("Filming an episode", self._film, films, algo, finite):
            self._films = None

    def _film(self, films: Films, algo: Any, row: Row) -> None:
        self._to_each("log_video", films.make(algo, self._folder, row), row)

    def _to_each(self, method: str, *args: Any) -> None:
        for name, tracker in list(self._trackers.items()):
            if not _survives(f"The tracker {name!r}", getattr(tracker, method), *args):
                del self._trackers[name]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leaves the process's random numbers as they were."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


def _survives(what: str, call: Callable[..., Any], *args: Any) -> bool:
    """Calls; returns False, with a warning, if that raises."""
    try:
        with undisturbed():
            call(*args)
    except Exception as error:
        logger.warning(
            "%s raised %s: %s\nThe training goes on without it. progress.csv has every row.",
            what, type(error).__name__, without_secrets(str(error)),
        )  # fmt: skip
        return False
    return True


def _names(track: Iterable[str]) -> list[str]:
    if isinstance(track, str):
        raise TeamError(f"track={track!r} must be a list of names: track=[{track!r}].")
    return list(dict.fromkeys(track))


def _class_of(name: str) -> type[Tracker]:
    if name not in TRACKERS:
        close = difflib.get_close_matches(str(name), TRACKERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(TRACKERS)}."
        raise TeamError(f"track: there is no tracker {name!r}; {hint}")
    return TRACKERS[name]
