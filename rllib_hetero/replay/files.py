"""The replay on disk: files that are written once, and linked to by later checkpoints."""

from __future__ import annotations

import json
import os
import re
import uuid
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_hetero.replay.priorities import Priorities
from rllib_hetero.replay.rings import Rings
from rllib_hetero.replay.rows import Rows
from rllib_hetero.replay.windows import Windows

MANIFEST, NEWEST = "manifest.json", "newest.npz"
_FORMAT = 1
_ROWS_PER_FILE = 65_536
_NAME = re.compile(r"rows-[0-9a-f]{32}\.npz")


def num_columns_of(manifest: bytes) -> int:
    """How many columns a replay has whose manifest this is."""
    return len(json.loads(manifest)["written"])


@dataclass
class Stretch:
    """A file of rows of all columns: of column c, the numbers first[c] to last[c] - 1."""

    file: str
    first: list[int]
    last: list[int]

    @property
    def longest(self) -> int:
        """The most rows that it has of any column."""
        return max(b - a for a, b in zip(self.first, self.last, strict=True))


class ReplayFiles:
    """Writes and reads a replay's folder.

    A row that has a successor never changes, so that rows go to disk once, in files of about
    65,536. A later checkpoint hard-links the files that still hold rows of the replay, and writes
    what is new, beside at most one unfinished file's worth. Where a link cannot be made, the rows
    are written again. What does change (each column's newest row, what follows it, priorities) has
    a file of its own in each checkpoint. The manifest comes last: a folder without it is not whole.

    Args:
        rings: Which rows there are.
        rows: The rows.
        windows: Where sequences begin, if any.
        priorities: Of the rows, if any.
        signature: What a replay must agree in to read the files.
    """

    def __init__(
        self,
        rings: Rings,
        rows: Rows,
        windows: Windows | None,
        priorities: Priorities | None,
        signature: dict[str, Any],
    ) -> None:
        self._rings = rings
        self._rows = rows
        self._windows = windows
        self._priorities = priorities
        self._signature = signature
        self._per_column = -(-_ROWS_PER_FILE // len(rings.counts))
        # The files of the last checkpoint that was written or read, oldest first.
        self._stretches: list[Stretch] = []

    # ---- writing -----------------------------------------------------------------------------

    def write(self, folder: Path, previous: Path | None) -> None:
        """Writes the folder; see `JointReplay.save`."""
        made: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stretches = self._link(folder, previous, made)
            stretches += self._write_rest(folder, stretches, made)
            self._write_arrays(folder / f"{NEWEST}.new", self._newest(), made)
            self._write_manifest(folder / f"{MANIFEST}.new", stretches, made)
        except OSError as error:
            for path in made:
                path.unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            raise OSError(
                error.errno,
                f"The replay could not be written to {str(folder)!r}: {error.strerror}. What was "
                "written is removed again; earlier checkpoints are whole",
            ) from error
        # Together they replace those of an earlier save to the same folder.
        os.replace(folder / f"{NEWEST}.new", folder / NEWEST)
        os.replace(folder / f"{MANIFEST}.new", folder / MANIFEST)
        wanted = {s.file for s in stretches} | {NEWEST}
        for path in folder.glob("*.npz"):
            if path.name not in wanted:
                path.unlink()
        self._stretches = stretches

    def _link(self, folder: Path, previous: Path | None, made: list[Path]) -> list[Stretch]:
        """Links to the full files that still hold rows, as long as they follow each other."""
        oldest = self._rings.written - self._rings.counts
        linked: list[Stretch] = []
        for stretch in self._stretches:
            if (np.array(stretch.last) <= oldest).all():
                continue
            if previous is None or stretch.longest < self._per_column:
                break
            path = folder / stretch.file
            if not path.exists():
                try:
                    os.link(previous / stretch.file, path)
                except OSError:
                    break  # The rows are still here, and are written again.
                made.append(path)
            linked.append(stretch)
        return linked

    def _write_rest(self, folder: Path, linked: list[Stretch], made: list[Path]) -> list[Stretch]:
        rings = self._rings
        first = rings.written - rings.counts
        if linked:
            first = np.maximum(first, linked[-1].last)
        end = rings.written - (rings.counts > 0)  # without the newest
        stretches = []
        while (first < end).any():
            last = np.minimum(first + self._per_column, end)
            stretch = Stretch(f"rows-{uuid.uuid4().hex}.npz", first.tolist(), last.tolist())
            places = rings.place(*_numbers(stretch))
            arrays = self._rows.read(places)
            if self._windows is not None:
                arrays["begins"] = self._windows.begins[places]
            self._write_arrays(folder / stretch.file, arrays, made)
            stretches.append(stretch)
            first = last
        return stretches

    def _newest(self) -> dict[str, np.ndarray]:
        rings = self._rings
        columns = np.flatnonzero(rings.counts)
        places = rings.place(columns, rings.written[columns] - 1)
        arrays = self._rows.read(places)
        if self._windows is not None:
            arrays["begins"] = self._windows.begins[places]
        after = rings.place(np.arange(len(rings.counts)), rings.written)
        arrays["after_seen"] = self._rows.tables["seen"].array[after]
        arrays["after_flags"] = self._rows.tables["flags"].array[after]
        if self._priorities is not None:
            arrays["priorities"] = self._priorities.tree.get(self._all_places())
            arrays["largest"] = np.array(self._priorities.largest)
        return arrays

    def _write_arrays(self, path: Path, arrays: dict[str, Any], made: list[Path]) -> None:
        made.append(path)
        with open(path, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())

    def _write_manifest(self, path: Path, stretches: list[Stretch], made: list[Path]) -> None:
        manifest = {
            "format": _FORMAT,
            "signature": self._signature,
            "written": self._rings.written.tolist(),
            "counts": self._rings.counts.tolist(),
            "stretches": [asdict(s) for s in stretches],
        }
        made.append(path)
        with open(path, "w") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())

    # ---- reading -----------------------------------------------------------------------------

    def read(self, folder: Path, saved: range | None, first_column: int) -> slice:
        """Reads columns of the folder; see `JointReplay.restore`.

        Returns:
            The columns that were read into.
        """
        written, counts, stretches = self._read_manifest(folder)
        saved = range(len(written)) if saved is None else saved
        rings = self._rings
        columns = slice(first_column, first_column + len(saved))
        inside = 0 <= saved.start <= saved.stop <= len(written) and saved.step == 1
        if not inside or not 0 <= first_column <= columns.stop <= len(rings.counts):
            raise ValueError(
                f"The replay in {str(folder)!r} has {len(written)} columns, and this one "
                f"{len(rings.counts)}: {saved} cannot be read into those from {first_column} on."
            )
        self._clear(columns)
        source = slice(saved.start, saved.stop)
        rings.restore(columns, written[source], counts[source])
        try:
            for stretch in stretches:
                self._read_rows(folder / stretch.file, _numbers(stretch), saved, columns)
            filled = np.flatnonzero(counts)
            newest = (filled, written[filled] - 1)
            arrays = self._read_rows(folder / NEWEST, newest, saved, columns)
        except ValueError:
            self._clear(columns)
            rings.restore(columns, written[source], np.zeros(len(saved), np.int64))
            raise
        after = rings.place(np.arange(columns.start, columns.stop), rings.written[columns])
        self._rows.tables["seen"].array[after] = arrays["after_seen"][source]
        self._rows.tables["flags"].array[after] = arrays["after_flags"][source]
        if self._priorities is not None:
            self._read_priorities(arrays, counts, source, columns)
        whole = len(saved) == len(written) == len(rings.counts)
        self._stretches = stretches if whole else []
        return columns

    def _read_manifest(self, folder: Path) -> tuple[np.ndarray, np.ndarray, list[Stretch]]:
        """How many rows each column was given, how many it has, and where they are."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            there, signature = manifest["format"], manifest["signature"]
            written, counts = (np.array(manifest[k], np.int64) for k in ("written", "counts"))
            stretches = [Stretch(**s) for s in manifest["stretches"]]
            if not all(_NAME.fullmatch(s.file) for s in stretches):
                raise ValueError("a file has a name that is not given here")
        except FileNotFoundError:
            raise ValueError(
                f"There is no whole replay in {str(folder)!r}: {MANIFEST} is missing."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"The replay's {MANIFEST} in {str(folder)!r} cannot be read: {error!r}"
            ) from error
        if there != _FORMAT:
            raise ValueError(
                f"The replay in {str(folder)!r} has the format {there}; this version reads "
                f"{_FORMAT}."
            )
        for name, here in self._signature.items():
            if signature.get(name) != here:
                raise ValueError(
                    f"The replay in {str(folder)!r} is of another team or other settings: its "
                    f"{name} is {signature.get(name)}, here it is {here}."
                )
        return written, counts, stretches

    def _read_rows(
        self, path: Path, numbers: tuple[np.ndarray, np.ndarray], saved: range, columns: slice
    ) -> dict[str, np.ndarray]:
        """Puts those rows of a file in their places that are wanted; returns its arrays."""
        column, number = numbers
        rings = self._rings
        wanted = (column >= saved.start) & (column < saved.stop)
        ring = np.where(wanted, column - saved.start + columns.start, columns.start)
        wanted &= number >= (rings.written - rings.counts)[ring]
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"The replay's file {str(path)!r} cannot be read: {error}") from error
        places = rings.place(ring, number)[wanted]
        cut = arrays["ends"] >= 0
        rows = {name: arrays[name][wanted] for name in (*self._rows.tables, "ends")}
        for name in ("final_seen", "final_flags"):
            rows[name] = arrays[name][wanted[cut]]
        self._rows.write(places, rows)
        if self._windows is not None:
            self._windows.restore(places, arrays["begins"][wanted])
        return arrays

    def _read_priorities(
        self, arrays: dict[str, np.ndarray], counts: np.ndarray, saved: slice, columns: slice
    ) -> None:
        """Those of the columns; rows that were saved without any are new."""
        assert self._priorities is not None
        places = self._all_places(columns)
        self._priorities.renew(places)
        if "priorities" not in arrays:
            return
        kept = np.minimum(counts[saved], self._rings.rows)
        ends = counts.cumsum()[saved]
        newest = [arrays["priorities"][end - k : end] for end, k in zip(ends, kept, strict=True)]
        self._priorities.tree.set(places, np.concatenate(newest))
        self._priorities.largest = float(arrays["largest"])

    def _all_places(self, columns: slice = slice(None)) -> np.ndarray:
        """Of the rows of these columns, in their order."""
        written = self._rings.written[columns].tolist()
        first = (self._rings.written - self._rings.counts)[columns].tolist()
        number = [np.arange(a, b) for a, b in zip(first, written, strict=True)]
        ring = np.arange(len(self._rings.counts))[columns]
        return self._rings.place(
            np.repeat(ring, self._rings.counts[columns]), np.concatenate(number)
        )

    def _clear(self, columns: slice) -> None:
        slots = self._rings.slots
        places = np.arange(columns.start * slots, columns.stop * slots)
        self._rows.clear(places)
        if self._windows is not None:
            self._windows.clear(places)
        if self._priorities is not None:
            self._priorities.clear(places)


def _numbers(stretch: Stretch) -> tuple[np.ndarray, np.ndarray]:
    """Column and number of each of a file's rows, column behind column."""
    first, last = np.array(stretch.first), np.array(stretch.last)
    column = np.repeat(np.arange(len(first)), last - first)
    number = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
    return column, np.concatenate(number) if number else np.zeros(0, np.int64)
