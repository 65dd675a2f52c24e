"""Plain text: texts between separators, and articles of WikiText."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.text_bytes import line_of, no_utf8, nul_bytes, opened
from collapse_sim.data.text.text_fields import At

CHUNK_BYTES = 1 << 20  # bytes of a file read at a time
BOM = codecs.BOM_UTF8.decode()


def plain(path: Path, separator: str | None, at: At) -> Iterator[str]:
    """The texts between separators, without a first and a last text that consist only of whitespace.

    A line break in the separator matches "\\n" and "\\r\\n" in the file.
    """
    pieces = _pieces(path, separator, at)
    piece = next(pieces, None)
    first = True
    while piece is not None:
        following = next(pieces, None)
        text = _decoded(path, *piece).lstrip(BOM)  # concatenated files may have a BOM inside
        if text.strip() or not (first or following is None):
            yield text
        first, piece = False, following


def _pieces(path: Path, separator: str | None, at: At) -> Iterator[tuple[int, bytes]]:
    """(byte offset, content) of each piece between separators."""
    with opened(path) as (file, position):
        if separator is None:
            yield 0, file.read()
            return
        lines = separator.replace("\r\n", "\n")
        pattern = re.compile(re.escape(lines.encode()).replace(b"\\\n", b"\r?\n"))
        longest = len(lines.encode()) + lines.count("\n")
        rest, start, seen = bytearray(), 0, 0
        while chunk := file.read(CHUNK_BYTES):
            rest += chunk
            begin = 0
            while match := pattern.search(rest, max(begin, seen)):
                yield start + begin, bytes(rest[begin : match.start()])
                begin = match.end()
            del rest[:begin]
            start += begin
            seen = max(0, len(rest) - longest + 1)  # no separator begins before this position
            at(position())
        yield start, bytes(rest)


def _decoded(path: Path, start: int, content: bytes) -> str:
    """`content`, which begins at byte `start` of the file, as text. Raises MissingError for NUL bytes and non-UTF-8."""
    nul = content.find(0)
    if nul >= 0:
        where = start + nul
        raise MissingError(nul_bytes(f"{path}:{line_of(path, where)}", f"at byte {where}"))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        where = start + error.start
        line = f"{path}:{line_of(path, where)}"
        raise MissingError(no_utf8(line, content[error.start], f"at byte {where}")) from None


def articles(lines: Iterator[str]) -> Iterator[str]:
    """Joins WikiText's lines into articles: each begins with a heading " = Title = " after an empty line.

    Empty lines (" " in the published files, "" on the hub) are left out; all others are kept unchanged.
    """
    article: list[str] = []
    after_empty = True
    for line in lines:
        line = line.rstrip("\r\n")
        words = line.split()
        heading = len(words) > 2 and words[0] == words[-1] == "=" and "=" not in (words[1], words[-2])
        if heading and after_empty and article:
            yield "\n".join(article)
            article = []
        after_empty = not words
        if words:
            article.append(line)
    if article:
        yield "\n".join(article)
