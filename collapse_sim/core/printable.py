"""Escapes text for display, so that no name, file or plug-in can send control codes to a terminal.

Escaped are control characters (C0, DEL, C1), marks that change the writing direction, invisible format characters, line
and paragraph separators, and lone surrogates, which is how Python represents a file name that is not UTF-8. Zero-width
joiners stay: emoji and Persian need them.
"""

from __future__ import annotations

import json
import re
from typing import Any

_CONTROLS = r"\x00-\x09\x0b-\x1f\x7f-\x9f"  # all but the line feed
_MARKS = r"\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_UNSAFE = re.compile(f"[{_CONTROLS}{_MARKS}\ud800-\udfff]")
LONGEST_LINE = 2000  # characters per line of a message
MOST_LINES = 200  # per message


class Clean(str):
    """Text that is already escaped and may contain our own escape codes, for colours."""

    __slots__ = ()


def escaped(text: str) -> str:
    r"""Text with visible escapes (\x1b, \u202e, a byte that is not UTF-8 as \xff); line feeds stay."""
    if isinstance(text, Clean):
        return text
    return _UNSAFE.sub(_escape, text)


def line(text: str) -> str:
    """One line: each run of white space, line breaks included, becomes one space; the rest is escaped."""
    return escaped(" ".join(text.split()))


def message(text: str) -> str:
    """A message for display: escaped, and cut where it is too long to read."""
    lines = [_cut(part) for part in escaped(text).split("\n")]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"... ({len(lines) - MOST_LINES} more lines)"]
    return "\n".join(lines)


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""JSON of a value that is safe to display: unsafe characters are escaped as \u202e, the rest is kept."""
    return _UNSAFE.sub(_json_escape, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def _cut(text: str) -> str:
    if len(text) <= LONGEST_LINE:
        return text
    return f"{text[:LONGEST_LINE]}... ({len(text) - LONGEST_LINE} more characters)"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte that os.fsdecode could not decode
    if 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return match[0].encode("unicode_escape").decode("ascii")


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]
