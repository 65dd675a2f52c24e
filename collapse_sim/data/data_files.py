"""Strict reading of arrays from files: a file that is not valid raises a MissingError that names it."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.core.files import kind_of
from collapse_sim.data.base import Columns
from collapse_sim.data.progress import Progress

HASH_BYTES = 1 << 22  # bytes hashed at a time


def stat_or_none(path: Path) -> os.stat_result | None:
    """The status of what is at `path`, following links; None when nothing is there. Nothing is opened.

    Raises MissingError for a link whose target is missing or that leads back to itself, and when stat fails.
    """
    try:
        return path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from None
        if path.is_symlink():
            raise MissingError(
                f"{path}: a link to {path.readlink()}, which does not exist: restore that file or remove the link"
            ) from None
        return None
    except ValueError:  # a name with a NUL byte
        return None


def names_in(folder: Path) -> list[str]:
    """The sorted names of a folder's entries; empty when there is no such folder.

    Raises MissingError for a folder that cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise MissingError(f"{folder}: cannot be read: {error.strerror or error}") from None


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder. Raises MissingError as `stat_or_none` does."""
    status = stat_or_none(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def check_regular(path: Path) -> os.stat_result:
    """Check that `path` is a regular file, which can be read without blocking; returns its status (size and times).

    Raises MissingError naming it otherwise: no file, a folder, a pipe, a socket, a device, a broken link.
    """
    status = stat_or_none(path)
    if status is None:
        raise MissingError(f"{path}: no such file")
    if not stat.S_ISREG(status.st_mode):
        raise MissingError(f"{path}: {kind_of(status.st_mode)}, not a file")
    return status


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file, with or without a byte order mark. Raises MissingError if it cannot be read."""
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from None


def open_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, memory-mapped and read-only; nothing is unpickled.

    Raises MissingError when the file is missing, is not a .npy file, contains Python objects, is truncated or too long.
    """
    size = check_regular(path).st_size
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        extra = size - array.offset - array.nbytes
    except Exception as error:  # NumPy parses headers as Python literals; each step of that raises different errors
        reason = str(error).rstrip(".")
        raise MissingError(f"{path}: not a readable .npy array ({reason}): save it again with numpy.save") from None
    if extra:
        raise MissingError(f"{path}: {extra} bytes more than its header states: save it again with numpy.save")
    return array


def checked_labels(path: Path, labels: np.ndarray, rows: int, images: str, classes: int) -> np.ndarray:
    """Check and return the `labels` of the file `path`: one integer in 0..classes - 1 per row of the file `images`.

    Raises MissingError otherwise. `rows` is the number of rows of `images`.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise MissingError(
            f"{path}: labels must be one integer per row, shape (N,); found {labels.dtype.name} of shape {labels.shape}"
        )
    if len(labels) != rows:
        raise MissingError(
            f"{path}: {len(labels)} labels, but {images} has {rows} images: one of them belongs to another data set"
        )
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise MissingError(f"{path}: label {labels[row]} at row {row}; allowed: 0 to {classes - 1}")
    return labels


def content_hash(**arrays: np.ndarray) -> str:
    """sha256 over names, shapes and contents: independent of how the arrays are stored on disk.

    Memory use stays constant when the arrays are memory-mapped.
    """
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        step = max(1, HASH_BYTES // max(1, array[:1].nbytes))
        progress = Progress(f"checking {getattr(array, 'filename', name)}", len(array), "rows")
        for first in range(0, len(array), step):
            digest.update(np.ascontiguousarray(array[first : first + step]).reshape(-1).view(np.uint8).data)
            release(array)
            progress.at(first + step)
    return digest.hexdigest()


def release(array: np.ndarray) -> None:
    """Release the pages read from a memory-mapped array, so that memory use does not grow with the file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """data.base.RowSource over columns that are arrays, memory-mapped or not."""

    columns: Columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def read(self, first: int, last: int) -> Columns:
        """Copies of rows first, ..., last - 1."""
        rows = {name: np.array(column[first:last]) for name, column in self.columns.items()}
        for column in self.columns.values():
            release(column)
        return rows
