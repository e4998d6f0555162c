"""The learners' replay beside a checkpoint: written by the learners, where they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow.fs

FOLDER = "replay"
"""Name of the replay's folder in a checkpoint."""


def save_replay(group: Any, path: str, filesystem: Any, previous: str | None) -> bool:
    """Writes `<path>/replay/learner_<k>/`, each learner its own.

    Args:
        group: The learner group.
        path: The checkpoint's folder, or its URI.
        filesystem: The pyarrow filesystem of `path`. None: that of the URI, or the local one.
        previous: An earlier checkpoint of the run; files that have not changed are linked to.

    Returns:
        Whether all was written. A learner on another machine does not see a local folder.
    """
    filesystem, path = _locate(path, filesystem)
    return all(_each(group, partial(_save, path=path, to=filesystem, previous=previous)))


def restore_replay(group: Any, path: str, filesystem: Any = None) -> bool:
    """Reads what `save_replay` wrote.

    Args:
        group: The learner group.
        path: The checkpoint's folder, or its URI.
        filesystem: See `save_replay`.

    Returns:
        Whether every learner has its part. None has, if as many as now did not write it.
    """
    filesystem, path = _locate(path, filesystem)
    there = pyarrow.fs.FileSelector(f"{path}/{FOLDER}", allow_not_found=True)
    if len(filesystem.get_file_info(there)) != max(1, len(group)):
        return False
    return all(_each(group, partial(_restore, path=path, origin=filesystem)))


def replay_bytes(group: Any) -> int:
    """Bytes of the rows that the learners hold, about."""
    return sum(_each(group, _bytes_held))


def _each(group: Any, call: Callable[[Any], Any]) -> list[Any]:
    results = list(group.foreach_learner(call))
    for result in results:
        if not result.ok:
            raise result.get()
    return [result.get() for result in results]


def _bytes_held(learner: Any) -> int:
    replay = learner.replay
    return replay.nbytes * len(replay) // replay.capacity


def _save(learner: Any, path: str, to: Any, previous: str | None) -> bool:
    folder = _folder(path, learner)
    if isinstance(to, pyarrow.fs.LocalFileSystem):
        if not os.path.isdir(path):
            return False
        before = _folder(previous, learner) if previous else ""
        learner.replay.save(folder, before if os.path.isdir(before) else None)
    else:
        with tempfile.TemporaryDirectory() as beside:
            learner.replay.save(beside)
            pyarrow.fs.copy_files(beside, folder, destination_filesystem=to)
    return True


def _restore(learner: Any, path: str, origin: Any) -> bool:
    folder = _folder(path, learner)
    if isinstance(origin, pyarrow.fs.LocalFileSystem):
        if not os.path.isdir(folder):
            return False
        learner.replay.restore(folder)
    else:
        with tempfile.TemporaryDirectory() as beside:
            pyarrow.fs.copy_files(folder, beside, source_filesystem=origin)
            learner.replay.restore(beside)
    return True


def _folder(path: str, learner: Any) -> str:
    return f"{path.rstrip('/')}/{FOLDER}/learner_{learner.rank}"


def _locate(path: str, filesystem: Any) -> tuple[Any, str]:
    return (filesystem, path) if filesystem is not None else pyarrow.fs.FileSystem.from_uri(path)
