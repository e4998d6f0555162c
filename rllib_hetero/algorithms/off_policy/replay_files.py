"""The learners' replay beside a checkpoint: written by the learners, where they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow.fs

from rllib_hetero.algorithms.each_learner import each_learner
from rllib_hetero.replay.files import MANIFEST, num_columns_of

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
    return all(each_learner(group, partial(_save, path=path, to=filesystem, previous=previous)))


def restore_replay(group: Any, path: str, filesystem: Any = None) -> bool:
    """Reads what `save_replay` wrote.

    Args:
        group: The learner group.
        path: The checkpoint's folder, or its URI.
        filesystem: See `save_replay`.

    Returns:
        Whether every learner has its part. None has, if there is none, or if it is of another
        number of environments; the number of learners may be another one.
    """
    filesystem, path = _locate(path, filesystem)
    there = pyarrow.fs.FileSelector(f"{path}/{FOLDER}", allow_not_found=True)
    saved = [
        _num_columns(filesystem, _folder(path, k))
        for k in range(len(filesystem.get_file_info(there)))
    ]
    return bool(saved) and all(
        each_learner(group, partial(_restore, path=path, origin=filesystem, saved=saved))
    )


def replay_bytes(group: Any) -> int:
    """Bytes of the rows that the learners hold, about."""
    return sum(each_learner(group, _bytes_held))


def _bytes_held(learner: Any) -> int:
    replay = learner.replay
    return replay.nbytes * len(replay) // replay.capacity


def _save(learner: Any, path: str, to: Any, previous: str | None) -> bool:
    folder = _folder(path, learner.rank)
    if isinstance(to, pyarrow.fs.LocalFileSystem):
        if not os.path.isdir(path):
            return False
        before = _folder(previous, learner.rank) if previous else ""
        learner.replay.save(folder, before if os.path.isdir(before) else None)
    else:
        with tempfile.TemporaryDirectory() as beside:
            learner.replay.save(beside)
            to.create_dir(folder, recursive=True)
            pyarrow.fs.copy_files(beside, folder, destination_filesystem=to)
    return True


def _restore(learner: Any, path: str, origin: Any, saved: list[int]) -> bool:
    """Reads the columns that this learner is home to, whichever learners wrote them.

    Args:
        learner: This learner.
        path: The checkpoint.
        origin: Its filesystem.
        saved: How many columns each learner had that wrote it.
    """
    if sum(saved) != learner.config.num_envs:
        return False
    own, start = learner.columns, 0
    for rank, size in enumerate(saved):
        part = range(max(own.start - start, 0), min(own.stop - start, size))
        if part:
            with _here(_folder(path, rank), origin) as folder:
                if folder is None:
                    return False
                learner.replay.restore(folder, part, start + part.start - own.start)
        start += size
    return True


@contextmanager
def _here(folder: str, origin: Any) -> Iterator[str | None]:
    """The folder on this machine; None if it is a local one, and of another machine."""
    if isinstance(origin, pyarrow.fs.LocalFileSystem):
        yield folder if os.path.isdir(folder) else None
        return
    with tempfile.TemporaryDirectory() as beside:
        pyarrow.fs.copy_files(folder, beside, source_filesystem=origin)
        yield beside


def _num_columns(filesystem: Any, folder: str) -> int:
    with filesystem.open_input_file(f"{folder}/{MANIFEST}") as file:
        return num_columns_of(file.read())


def _folder(path: str, rank: int) -> str:
    return f"{path.rstrip('/')}/{FOLDER}/learner_{rank}"


def _locate(path: str, filesystem: Any) -> tuple[Any, str]:
    return (filesystem, path) if filesystem is not None else pyarrow.fs.FileSystem.from_uri(path)
