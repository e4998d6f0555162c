"""Files that may be anybody's, read up to a limit; and files that are written whole or not."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from rllib_hetero.errors import TeamError


def read_bytes(path: Path, *, most: int, within: Path | None = None) -> bytes:
    """The content of a plain file.

    What never ends (a device) or never begins (a pipe) is not waited for.

    Args:
        path: The file.
        most: The largest size in bytes.
        within: A folder; a link that leads out of it is refused. None: links may lead anywhere.

    Raises:
        FileNotFoundError: If there is no file.
        TeamError: If it is no plain file, too large, or elsewhere.
    """
    if within is not None and not path.resolve().is_relative_to(within.resolve()):
        raise TeamError(f"{path} lies outside of {within}: it is not read.")
    # Without O_NONBLOCK, opening a pipe would wait for somebody who writes.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise TeamError(f"{path} is no plain file: it is not read.")
    with open(handle, "rb") as file:
        content = file.read(most + 1) if about.st_size <= most else b""
    if about.st_size > most or len(content) > most:
        raise TeamError(f"{path} is larger than {most:,} bytes: it is not read.")
    return content


def read_text(path: Path, *, most: int) -> str:
    """The text of a plain file; see `read_bytes`.

    Raises:
        TeamError: Also if it is not UTF-8.
    """
    try:
        return read_bytes(path, most=most).decode()
    except UnicodeDecodeError as problem:
        raise TeamError(f"{path} is no text: {problem}.") from None


def read_json(path: Path, *, most: int, within: Path | None = None) -> Any:
    """What a JSON file holds; see `read_bytes`.

    Raises:
        TeamError: Also if it is no JSON.
    """
    content = read_bytes(path, most=most, within=within)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as problem:  # a JSONDecodeError is a ValueError
        raise TeamError(f"{path} is not JSON: {problem}.") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes beside the file that is there, then takes its place; a link there is replaced, too.

    Raises:
        OSError: If it cannot. The file that was there stays.
    """
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.")
    try:
        with open(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(beside, 0o666 & ~_umask())  # a temporary file is for its owner only
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _umask() -> int:
    known = os.umask(0)
    os.umask(known)
    return known
