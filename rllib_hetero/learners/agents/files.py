"""A host's part of a checkpoint, written where the host is.

<checkpoint>/agents/<member>.pt          all that a member is
<checkpoint>/policies/<member>.pt        its policy, in a form that needs no Ray to read
<checkpoint>/agents/<member>.replay/     what it, and maybe others of its host, draw from
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import torch

from rllib_hetero.layout import ModuleID
from rllib_hetero.policies import FOLDER as POLICIES
from rllib_hetero.replay import JointReplay

AGENTS = "agents"
"""Name of the folder of the members' states in a checkpoint."""


def write(
    states: Mapping[ModuleID, Any],
    policies: Mapping[ModuleID, dict[str, np.ndarray]],
    replays: Mapping[ModuleID, JointReplay],
    path: str,
    filesystem: Any,
    previous: str | None,
) -> dict[str, bytes] | None:
    """Writes them, or hands them back where the folder is on another machine.

    Args:
        states: Member to its state.
        policies: Member to its policy.
        replays: The host's, by a member that draws from each; empty: they are not to be written.
        path: The checkpoint's folder, on the filesystem.
        filesystem: The pyarrow filesystem.
        previous: An earlier checkpoint of the run, to whose files the replay's may be linked.

    Returns:
        None if all was written. Else the bytes of the files by their names within the checkpoint,
        without the replay's, of which there may be any number.
    """
    local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    contents = {f"{AGENTS}/{m}.pt": _bytes_of(state) for m, state in states.items()}
    for m, policy in policies.items():
        tensors = {name: torch.as_tensor(np.asarray(x)) for name, x in policy.items()}
        contents[f"{POLICIES}/{m}.pt"] = _bytes_of(tensors)
    if local and not os.path.isdir(path):
        return contents
    write_contents(contents, path, filesystem)
    for m, replay in replays.items():
        _write_replay(replay, m, path, filesystem, previous)
    return None


def _write_replay(
    replay: JointReplay, member: ModuleID, path: str, filesystem: Any, previous: str | None
) -> None:
    folder = _replay_folder(path, member)
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        before = _replay_folder(previous, member) if previous else ""
        replay.save(Path(folder), Path(before) if os.path.isdir(before) else None)
        return
    with tempfile.TemporaryDirectory() as beside:
        replay.save(Path(beside), None)
        filesystem.create_dir(folder, recursive=True)
        pyarrow.fs.copy_files(beside, folder, destination_filesystem=filesystem)


def write_contents(contents: Mapping[str, bytes], path: str, filesystem: Any) -> None:
    """Writes files by their names within a checkpoint."""
    for name, content in contents.items():
        filesystem.create_dir(os.path.dirname(f"{path}/{name}"), recursive=True)
        with filesystem.open_output_stream(f"{path}/{name}") as file:
            file.write(content)


def read_states(
    members: Iterable[ModuleID], path: str, filesystem: Any
) -> dict[ModuleID, dict[str, Any]]:
    """The states of those of the members that there is a file of."""
    states = {}
    for m in members:
        name = f"{path}/{AGENTS}/{m}.pt"
        if filesystem.get_file_info(name).type == pyarrow.fs.FileType.File:
            with filesystem.open_input_file(name) as file:
                states[m] = torch.load(io.BytesIO(file.read()), weights_only=False)
    return states


def read_replays(replays: Mapping[ModuleID, JointReplay], path: str, filesystem: Any) -> bool:
    """Reads a host's replays; False, and nothing is read, unless all of them are there."""
    folders = {m: _replay_folder(path, m) for m in replays}
    found = filesystem.get_file_info(list(folders.values()))
    if any(info.type != pyarrow.fs.FileType.Directory for info in found):
        return False
    for m, replay in replays.items():
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            replay.restore(Path(folders[m]))
            continue
        with tempfile.TemporaryDirectory() as beside:
            pyarrow.fs.copy_files(folders[m], beside, source_filesystem=filesystem)
            replay.restore(Path(beside))
    return True


def _replay_folder(path: str, member: ModuleID) -> str:
    return f"{path}/{AGENTS}/{member}.replay"


def _bytes_of(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()
