"""Escaping of all content in Rich texts and tables; only our own styles remain."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from collapse_sim.core import printable


def clean(part: RenderableType) -> RenderableType:
    """Escape all texts before the layout, so that column widths fit. Tables and paddings are changed in place."""
    if isinstance(part, str):
        return printable.escaped(part)
    if isinstance(part, Text):
        return clean_text(part)
    if isinstance(part, Padding):
        part.renderable = clean(part.renderable)
    if isinstance(part, Table):
        for column in part.columns:
            column.header, column.footer = clean(column.header), clean(column.footer)
            column._cells = [clean(cell) for cell in column._cells]
        part.title = clean(part.title) if isinstance(part.title, str | Text) else part.title  # type: ignore[assignment]
        part.caption = clean(part.caption) if isinstance(part.caption, str | Text) else part.caption  # type: ignore[assignment]
    return part


def clean_text(text: Text) -> Text:
    """An escaped text that keeps its styles."""
    if printable.escaped(text.plain) == text.plain:
        return text
    cleaned = text.blank_copy()
    for segment in text.render(_PLAIN):
        cleaned.append(printable.escaped(segment.text), segment.style)
    return cleaned


class Cleaned:
    """A renderable whose content is escaped first, and whose rendered output is escaped again."""

    def __init__(self, part: RenderableType) -> None:
        self.part = clean(part)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.part, options):
            yield segment if segment.control else Segment(printable.escaped(segment.text), segment.style)


_PLAIN = Console(color_system=None)
