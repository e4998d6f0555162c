"""One training at a time writes into a folder."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rllib_hetero.errors import TeamError

FILE = ".lock"

logger = logging.getLogger(__name__)


class FolderInUseError(TeamError):
    """Another process writes into the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps others from writing into a folder. The lock ends with the process, however it ends.

    The file `.lock` stays behind; it is the system's lock on it that counts, not that it is there.
    File systems that know no locks are warned of, and written into all the same.

    Args:
        folder: It must exist.

    Raises:
        FolderInUseError: If another has it. The message tells who.
    """
    with open(folder / FILE, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read(200).strip() or "another process"
            raise FolderInUseError(
                f"{folder} is being written by {who}: wait until it has ended, or stop it. Two at "
                "a time would spoil each other's table and checkpoint."
            ) from None
        except OSError as problem:
            logger.warning("Nothing keeps a second training out of %s: %s", folder, problem)
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield
