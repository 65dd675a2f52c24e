"""The IDX format of MNIST: two zero bytes, a type code, the number of dimensions, big-endian sizes, the data."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.data.data_files import check_regular

TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an IDX file with `dimensions` dimensions: memory-mapped, or in memory if it ends in .gz.

    Raises MissingError naming the file when it is not an IDX file, has another type or number of dimensions, or is
    empty, truncated or too long.
    """
    size = check_regular(path).st_size
    if path.suffix == ".gz":
        content = _unzipped(path)
        shape = _shape(path, content[: 4 + 4 * dimensions], len(content), dimensions)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    try:
        with path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
        shape = _shape(path, header, size, dimensions)
        return np.memmap(path, np.uint8, "r", len(header), shape)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from None


def _unzipped(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise MissingError(f"{path}: not a complete gzip file ({error}): get it again") from None


def _shape(path: Path, header: bytes, size: int, dimensions: int) -> tuple[int, ...]:
    """The sizes in the header, checked against the size of the file in bytes."""
    if header[:2] == b"\x1f\x8b":
        raise MissingError(f"{path}: this is a gzip file: rename it to {path.name}.gz or decompress it")
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in TYPES:
        raise MissingError(f"{path}: not an IDX file: it begins with {header[:4].hex(' ') or 'nothing'}: get it again")
    if header[2] != 0x08:
        raise MissingError(f"{path}: holds {TYPES[header[2]]}; allowed: uint8 (type code 08)")
    if header[3] != dimensions:
        raise MissingError(f"{path}: has {header[3]} dimensions; needed: {dimensions}")
    if len(header) < 4 + 4 * dimensions:
        raise MissingError(f"{path}: truncated within its header, after {len(header)} bytes: get it again")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", dimensions, 4))
    needed = len(header) + math.prod(shape)
    if size != needed:
        state = "truncated" if size < needed else "too long"
        sizes = "x".join(map(str, shape))
        raise MissingError(f"{path}: {state}: {size} bytes, but its header ({sizes}) needs {needed}: get it again")
    if math.prod(shape) == 0:
        raise MissingError(f"{path}: empty: its header states the sizes {'x'.join(map(str, shape))}")
    return shape
