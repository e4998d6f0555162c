"""A host's part of a checkpoint, written where the host is.

<checkpoint>/agents/<member>.pt          all that a member is
<checkpoint>/policies/<member>.pt        its policy, in a form that needs no Ray to read
<checkpoint>/agents/<first member>.replay/    the host's replay
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

from rllib_hetero.policies import FOLDER as POLICIES
from rllib_hetero.replay import JointReplay
from rllib_hetero.team import ModuleID

AGENTS = "agents"
"""Name of the folder of the members' states in a checkpoint."""


def write(
    states: Mapping[ModuleID, Any],
    policies: Mapping[ModuleID, dict[str, np.ndarray]],
    replay: JointReplay | None,
    path: str,
    filesystem: Any,
    previous: str | None,
) -> dict[str, bytes] | None:
    """Writes them, or hands them back where the folder is on another machine.

    Args:
        states: Member to its state.
        policies: Member to its policy.
        replay: The host's; None: it is not to be written.
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
    if replay is None:
        return None
    folder = _replay_folder(path, next(iter(states)))
    if local:
        before = _replay_folder(previous, next(iter(states))) if previous else ""
        replay.save(Path(folder), Path(before) if os.path.isdir(before) else None)
    else:
        with tempfile.TemporaryDirectory() as beside:
            replay.save(Path(beside), None)
            filesystem.create_dir(folder, recursive=True)
            pyarrow.fs.copy_files(beside, folder, destination_filesystem=filesystem)
    return None


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


def read_replay(first: ModuleID, replay: JointReplay, path: str, filesystem: Any) -> bool:
    """Reads a host's replay, by the id of its first member; False if there is none."""
    folder = _replay_folder(path, first)
    if filesystem.get_file_info(folder).type != pyarrow.fs.FileType.Directory:
        return False
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        replay.restore(Path(folder))
        return True
    with tempfile.TemporaryDirectory() as beside:
        pyarrow.fs.copy_files(folder, beside, source_filesystem=filesystem)
        replay.restore(Path(beside))
    return True


def _replay_folder(path: str, first: ModuleID) -> str:
    return f"{path}/{AGENTS}/{first}.replay"


def _bytes_of(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()
