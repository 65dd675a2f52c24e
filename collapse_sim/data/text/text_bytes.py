"""The bytes of files of texts: gzip is unpacked as it is read, and what is no UTF-8 is told by its first bytes."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from collapse_sim.core.errors import MissingError
from collapse_sim.core.readable import check_pointer, fault

GZIP = b"\x1f\x8b"
UTF_16 = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # in this order
PACKED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z"}
FIRST_BYTES = 10  # that tell them apart


class Opened(NamedTuple):
    """A file that is being read."""

    file: BinaryIO  # what is in it, unpacked
    position: Callable[[], int]  # bytes of the file itself that have been read


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """A file of texts, from its beginning.

    Raises MissingError for what is no file, a pointer of git-lfs, another packing than gzip, UTF-16, and a gzip file
    that is not whole.
    """
    wrong = fault(path)
    if wrong:
        raise MissingError(f"{path}: {wrong}")
    check_pointer(path)
    with path.open("rb") as raw:
        first = raw.read(FIRST_BYTES)
        raw.seek(0)
        if not first.startswith(GZIP):
            check_first(path, first)
            yield Opened(raw, raw.tell)
            return
        try:
            with gzip.open(raw) as file:
                check_first(path, file.read(FIRST_BYTES))
                file.seek(0)
                yield Opened(cast(BinaryIO, file), raw.tell)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise MissingError(f"{path}: not a whole gzip file ({str(error).rstrip('.')}): get it again") from None


def check_first(path: Path, first: bytes) -> None:
    """Raises MissingError when the first bytes of a file are those of something else than UTF-8."""
    for mark, name in UTF_16.items():
        if first.startswith(mark):
            raise MissingError(
                f"{path}: {name}, by its first bytes; needed: UTF-8: iconv -f {name} -t UTF-8 converts it"
            )
    for mark, name in PACKED.items():
        if first.startswith(mark) and (name != "bzip2" or first[4:] == b"1AY&SY"):
            raise MissingError(f"{path}: packed by {name}, by its first bytes: unpack it; gzip alone is read as it is")


def no_utf8(where: str, byte: int, place: str) -> str:
    return f"{where}: no UTF-8: 0x{byte:02x} {place}; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 converts)"


def nul_bytes(where: str, place: str) -> str:
    """What is said of bytes that no text has. A crash leaves them where a file grew and was not written."""
    return (
        f"{where}: a NUL byte {place}, which no text has: the file was not written to its end, or is UTF-16; "
        "write it again, or remove what is behind the last whole line"
    )


def line_of(path: Path, place: int) -> int:
    """The number of the line, from 1, in which the byte `place` of the (unpacked) file is."""
    line, left = 1, place
    with opened(path) as (file, _):
        while left and (chunk := file.read(min(1 << 20, left))):
            line, left = line + chunk.count(b"\n"), left - len(chunk)
    return line


def decoded_line(where: str, line: bytes) -> str:
    """A line as text. Raises MissingError when it is no UTF-8, or has NUL bytes."""
    if b"\0" in line:
        raise MissingError(nul_bytes(where, f"at byte {line.index(0)} of the line"))
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise MissingError(no_utf8(where, line[error.start], f"at byte {error.start} of the line")) from None
