"""Memory of the replay: tables in RAM or in files, read by torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

Allocate = Callable[[tuple[int, ...], DTypeLike], np.ndarray]
"""Makes an array of zeros of a shape and a dtype."""


def in_files(folder: str | Path) -> Allocate:
    """Arrays that are mapped from files, so that the replay may be larger than the memory.

    The files have no name: nobody else can open them, and they are gone with the process. Their
    room is taken at once, as a disk that is full later on would kill the process.
    """

    def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        if not np.prod(shape):
            return np.zeros(shape, dtype)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return np.asarray(np.memmap(file, dtype=dtype, mode="r+", shape=shape))
        except OSError as error:
            raise OSError(
                error.errno,
                f"The replay's folder {str(folder)!r} does not take another {size / 2**20:,.0f} "
                f"MiB: {error.strerror}. Name another one, or lower the replay's capacity",
            ) from error

    return allocate


class Table:
    """Rows of numbers, in numpy for writing and in torch for reading: the same memory.

    Attributes:
        array: (N, width).
        tensor: (N, width).
    """

    def __init__(self, allocate: Allocate, rows: int, width: int, dtype: DTypeLike) -> None:
        self.array = allocate((rows, width), dtype)
        self.tensor = torch.from_numpy(self.array)

    def take(self, rows: np.ndarray) -> Tensor:
        """A copy of rows (...) -> (..., width)."""
        # Many times faster than tensor[rows].
        flat = self.tensor.index_select(0, torch.from_numpy(rows.reshape(-1)))
        return flat.view(*rows.shape, self.array.shape[1])
