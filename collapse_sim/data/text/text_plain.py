"""Plain text: what lies between separators, and articles of WikiText."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.text_bytes import line_of, no_utf8, nul_bytes, opened
from collapse_sim.data.text.text_fields import At

CHUNK_BYTES = 1 << 20  # of a file, read at a time
BOM = codecs.BOM_UTF8.decode()


def plain(path: Path, separator: str | None, at: At) -> Iterator[str]:
    """What lies between separators; nothing before a first and after a last one, if there is nothing but space.

    A line break in the separator is "\\n" or "\\r\\n" in the file.
    """
    pieces = _pieces(path, separator, at)
    held = next(pieces, None)
    first = True
    while held is not None:
        following = next(pieces, None)
        text = _decoded(path, *held).lstrip(BOM)  # files with one that were put together have it within
        if text.strip() or not (first or following is None):
            yield text
        first, held = False, following


def _pieces(path: Path, separator: str | None, at: At) -> Iterator[tuple[int, bytes]]:
    """(where it begins, what lies between two separators)."""
    with opened(path) as (file, position):
        if separator is None:
            yield 0, file.read()
            return
        lines = separator.replace("\r\n", "\n")
        wanted = re.compile(re.escape(lines.encode()).replace(b"\\\n", b"\r?\n"))
        longest = len(lines.encode()) + lines.count("\n")
        rest, start, seen = bytearray(), 0, 0
        while chunk := file.read(CHUNK_BYTES):
            rest += chunk
            begin = 0
            while found := wanted.search(rest, max(begin, seen)):
                yield start + begin, bytes(rest[begin : found.start()])
                begin = found.end()
            del rest[:begin]
            start += begin
            seen = max(0, len(rest) - longest + 1)  # no separator begins before
            at(position())
        yield start, bytes(rest)


def _decoded(path: Path, start: int, content: bytes) -> str:
    """`content`, which begins at the byte `start` of the file, as text."""
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
    """WikiText's lines as articles: each begins with a heading " = Title = " after an empty line.

    Empty lines are left out, all others are kept as they are: the published files have them as " ", the hub's as "".
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
