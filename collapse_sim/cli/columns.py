"""Plain text in columns, for stdout."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns, without trailing spaces."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def terms(rows: Sequence[tuple[str, str]], width: int | None) -> str:
    """One row per term, its meaning beside it, wrapped to `width` characters (None: one line per row)."""
    name = max((len(term) for term, _ in rows), default=0) + 2
    lines = []
    for term, meaning in rows:
        first, *rest = wrapped(meaning, None if width is None else width - name)
        lines += [f"{term.ljust(name)}{first}".rstrip(), *(" " * name + line for line in rest)]
    return "\n".join(lines)


def wrapped(text: str, width: int | None) -> list[str]:
    """The text in lines of `width` characters (None: unlimited), at least one line."""
    if width is None:
        return [text]
    return textwrap.wrap(text, max(width, 20), break_on_hyphens=False) or [""]
