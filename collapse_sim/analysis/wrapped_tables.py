"""Tables that never cut a figure: columns that don't fit side by side go into another block below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

_GAP = 2  # characters between columns
_NARROWEST = 12  # the least width to which names of rows are folded
_FOLDS = re.compile(r"[^ ,;/+]*[ ,;/+]*")  # names are folded after one of these characters, if they have any


@dataclass(frozen=True)
class TableColumn:
    """A header, which may have several lines, and one right-justified cell per row."""

    header: str
    cells: Sequence[Text]

    @property
    def width(self) -> int:
        return max(text.cell_len for text in (*map(Text, self.header.split("\n")), *self.cells))


def blocks(names: TableColumn, columns: Sequence[TableColumn], width: int | None) -> list[RenderableType]:
    """Tables of at most `width` characters (None: unlimited), separated by empty lines, each with the rows' names.

    Names longer than two fifths of the width are folded. Only a column that does not fit beside the names is too wide.
    """
    names_width = names.width if width is None else min(names.width, max(_NARROWEST, width * 2 // 5))
    groups: list[list[TableColumn]] = []
    used = 0
    for column in columns:
        used += _GAP + column.width
        if not groups or (width is not None and used > width):
            groups.append([])
            used = names_width + _GAP + column.width
        groups[-1].append(column)
    parts: list[RenderableType] = []
    for group in groups:
        parts += ["", _table(names, names_width, group)] if parts else [_table(names, names_width, group)]
    return parts


def folded(text: str, width: int) -> list[str]:
    """The entire text in lines of at most `width` characters."""
    lines = [""]
    for piece in _FOLDS.findall(text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return lines


def _table(names: TableColumn, names_width: int, columns: Sequence[TableColumn]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), header_style="bold")
    table.add_column("\n".join(folded(names.header, names_width)), min_width=names_width, vertical="bottom")
    for column in columns:
        header = "\n".join(line.rjust(column.width) for line in column.header.split("\n"))
        table.add_column(header, no_wrap=True, min_width=column.width, vertical="bottom")
    for name, *cells in zip(names.cells, *(column.cells for column in columns), strict=True):
        folded_name = Text("\n".join(folded(name.plain, names_width)), name.style)
        padded = (_right(cell, column.width) for cell, column in zip(cells, columns, strict=True))
        table.add_row(folded_name, *padded)
    return table


def _right(cell: Text, width: int) -> Text:
    """Padded on the left; Rich's right-justified columns would drop trailing spaces, which keep figures aligned."""
    padded = cell.copy()
    padded.pad_left(width - cell.cell_len)
    return padded
