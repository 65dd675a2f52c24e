"""Rows on disk: a safetensors file that is written in shards and read through a memory map.

The layout is the safetensors format (8 bytes header length, JSON header, raw little-endian data), so that any reader of
safetensors can open the files; this module adds writing in shards and releasing memory pages.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from collapse_sim.core.files import remove, require_file
from collapse_sim.store.sealed import loads

SAMPLES_FILE = "samples.safetensors"  # of generated rows
VALUES_FILE = "rows.safetensors"  # beside a score: its metric's values per row, if it has any
INFLUENCE = "influence"  # its column with the influence of each held-out row on the score: (n,) float32

DTYPES = {
    "uint8": "U8", "int16": "I16", "int32": "I32", "int64": "I64", "float32": "F32", "float64": "F64", "bool": "BOOL",
}  # fmt: skip
NAMES = {code: name for name, code in DTYPES.items()}


class RowWriter:
    """Writes columns of `rows` rows, in ranges of any order. An existing file of the same layout is continued."""

    def __init__(self, path: Path, rows: int, columns: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        self._offsets: dict[str, tuple[int, int]] = {}  # column -> start of its data, bytes per row
        header: dict[str, Any] = {}
        position = 0
        for name, (shape, dtype) in sorted(columns.items(), key=lambda item: (-np.dtype(item[1][1]).itemsize, item[0])):
            row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
            end = position + rows * row_bytes
            header[name] = {"dtype": DTYPES[dtype], "shape": [rows, *shape], "data_offsets": [position, end]}
            self._offsets[name] = (position, row_bytes)
            position = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._start = 8 + len(text)
        size = self._start + position
        head = len(text).to_bytes(8, "little") + text
        new = not _begins_with(path, head) or path.stat().st_size != size
        if new:
            remove(path)  # whatever it is: opening a named pipe would block
        self._file = path.open("x+b" if new else "r+b")
        if new:
            self._file.write(head)
            self._file.truncate(size)

    def write(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Rows first, first + 1, ... of every column."""
        for name, array in columns.items():
            start, row_bytes = self._offsets[name]
            self._file.seek(self._start + start + first * row_bytes)
            self._file.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _begins_with(path: Path, head: bytes) -> bool:
    """Whether `path` is a file that begins with `head`."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(head)) == head


class RowFile:
    """Memory-mapped columns; changes to them stay in memory.

    Raises OSError when there is no file, ValueError or KeyError when it is not a file of rows.
    """

    def __init__(self, path: Path) -> None:
        mode = path.stat()
        require_file(path, mode.st_mode)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > mode.st_size - 8:
                raise ValueError(f"{path}: its header is longer than the file")
            header = loads(file.read(length))
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.columns: dict[str, np.ndarray] = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            if end - begin != math.prod(entry["shape"]) * np.dtype(NAMES[entry["dtype"]]).itemsize:
                raise ValueError(f"{path}: {name} has fewer or more bytes than its shape needs")
            flat = np.frombuffer(
                self._map, dtype=NAMES[entry["dtype"]], count=math.prod(entry["shape"]), offset=8 + length + begin
            )
            self.columns[name] = flat.reshape(entry["shape"])

    def release(self) -> None:
        """Release the pages read so far: memory use stays constant, however many files a fit reads."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
