"""The bytes of text files: gzip is decompressed on reading, and other encodings are detected by their first bytes."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from collapse_sim.core.errors import MissingError
from collapse_sim.core.readable import check_pointer, file_problem

GZIP = b"\x1f\x8b"
UTF_16 = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # in this order
PACKED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z"}
FIRST_BYTES = 10  # enough to distinguish them


class Opened(NamedTuple):
    """A file that is being read."""

    file: BinaryIO  # its content, decompressed
    position: Callable[[], int]  # number of bytes read from the file on disk


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """A text file, opened at its beginning.

    Raises MissingError for a path that is not a file, a pointer of git-lfs, compression other than gzip, UTF-16, and an
    incomplete gzip file.
    """
    wrong = file_problem(path)
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
            raise MissingError(f"{path}: not a complete gzip file ({str(error).rstrip('.')}): get it again") from None


def check_first(path: Path, first: bytes) -> None:
    """Raises MissingError when the first bytes of a file are not those of UTF-8 text."""
    for mark, name in UTF_16.items():
        if first.startswith(mark):
            raise MissingError(
                f"{path}: {name}, by its first bytes; needed: UTF-8: iconv -f {name} -t UTF-8 converts it"
            )
    for mark, name in PACKED.items():
        if first.startswith(mark) and (name != "bzip2" or first[4:] == b"1AY&SY"):
            raise MissingError(f"{path}: compressed with {name}, by its first bytes: decompress it; only gzip is read")


def no_utf8(where: str, byte: int, location: str) -> str:
    return f"{where}: not UTF-8: 0x{byte:02x} {location}; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 converts)"


def nul_bytes(where: str, location: str) -> str:
    """The message on NUL bytes, which no text has. A crash may leave them where a file grew but was not written."""
    return (
        f"{where}: a NUL byte {location}, which no text has: the file was not written completely, or is UTF-16; "
        "write it again, or remove everything after the last complete line"
    )


def line_of(path: Path, position: int) -> int:
    """The number of the line, from 1, that contains the byte `position` of the (decompressed) file."""
    line, remaining = 1, position
    with opened(path) as (file, _):
        while remaining and (chunk := file.read(min(1 << 20, remaining))):
            line, remaining = line + chunk.count(b"\n"), remaining - len(chunk)
    return line


def decoded_line(where: str, line: bytes) -> str:
    """A line as text. Raises MissingError when it is not UTF-8, or has NUL bytes."""
    if b"\0" in line:
        raise MissingError(nul_bytes(where, f"at byte {line.index(0)} of the line"))
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise MissingError(no_utf8(where, line[error.start], f"at byte {error.start} of the line")) from None
