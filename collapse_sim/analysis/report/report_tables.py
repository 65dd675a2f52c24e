"""The tables of `compare` in a report: the same cells, read from what the terminal would show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from collapse_sim.analysis.by_protocol import by_protocol, heading_of, training_table
from collapse_sim.analysis.parts import parts_of
from collapse_sim.analysis.reached import common
from collapse_sim.analysis.report.report_document import (
    Block,
    ReportCell,
    ReportHeading,
    ReportNote,
    ReportTable,
    Tone,
    Urgency,
)
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.summary import summary
from collapse_sim.analysis.table import against_baseline, by_generation, readable
from collapse_sim.ui.palette import DONE, WARNING

_THEORY = "  theory"  # the row below an arm's, which belongs to it


def comparison(results: Results) -> list[Block]:
    """The first table of `compare`, at the last generation that all arms have; one for each protocol."""
    blocks: list[Block] = []
    metrics = results.metrics_without_parts()
    groups = by_protocol(results)
    for protocol, group in groups.items():
        last = common(group, metrics)
        if last is None:
            continue
        if len(groups) > 1:
            blocks.append(ReportHeading(heading_of(protocol)))
        blocks += from_rich(summary(group, metrics, last, None))
    return blocks


def metric_tables(results: Results, metric: str) -> list[Block]:
    """The tables of `compare --metric`: by generation, and against the baseline, for each protocol."""
    blocks: list[Block] = []
    groups = by_protocol(results)
    for protocol, group in groups.items():
        scored, last = group.scored(metric), common(group, [metric])
        if last is None:
            continue
        if len(groups) > 1:
            blocks.append(ReportHeading(f"{metric}, {protocol or 'solved'}", 4))
        shown = readable(scored, last)
        blocks += from_rich(by_generation(group, metric, shown, None))
        if len(shown) < len(scored):
            note = f"{len(shown)} of {len(scored)} generations are in this table; the numbers in this file have all"
            blocks.append(ReportNote(note, "faint"))
        blocks += from_rich(against_baseline(group, metric, last, None))
        blocks += from_rich(parts_of(group, metric, last, None))
    return blocks


def training_lengths(results: Results) -> list[Block]:
    """Updates and epochs of every fit; [] if nothing is trained."""
    return from_rich(training_table(results, readable(list(range(results.generations + 1))), None))


def from_rich(parts: Iterable[RenderableType]) -> list[Block]:
    """Lines and tables as blocks. A line above a table is its caption."""
    blocks: list[Block] = []
    for part in parts:
        if isinstance(part, Table):
            caption = blocks.pop() if blocks and isinstance(blocks[-1], ReportNote) else None
            blocks.append(_table(part, caption.text if isinstance(caption, ReportNote) else ""))
        elif isinstance(part, (Text, str)) and str(part).strip():
            blocks.append(ReportNote(str(part).strip(), _urgency(part)))
    return blocks


def text_table(caption: str, rows: Sequence[Sequence[str]], *, prose: bool = False) -> ReportTable:
    """A table of plain cells; the first row has the headings."""
    headers, *rest = rows
    return ReportTable(caption, headers, [[ReportCell(text) for text in row] for row in rest], prose=prose)


def _table(table: Table, caption: str) -> ReportTable:
    headers = ["\n".join(line.strip() for line in str(column.header).split("\n")) for column in table.columns]
    columns = [[cast("Text", cell) for cell in column.cells] for column in table.columns]
    rows = [[_cell(text) for text in row] for row in zip(*columns, strict=True)]
    names = [text.plain for text in columns[0]]
    return ReportTable(caption, headers, rows, sortable=_THEORY not in names)


def _cell(text: Text) -> ReportCell:
    """A name's line breaks are the terminal's, which folds long names."""
    return ReportCell(text.plain.replace("\n", "").strip(), tone_of(str(text.style)))


def tone_of(style: str) -> Tone:
    """What a style of the terminal means."""
    if DONE in style:
        return "best" if "bold" in style else "good"
    return "bad" if WARNING in style else "faint" if style == "dim" else ""


def _urgency(part: Text | str) -> Urgency:
    if isinstance(part, str):
        return "plain"
    styles = {str(part.style), *(str(span.style) for span in part.spans)}
    return "warning" if WARNING in styles else "faint" if "dim" in styles else "plain"
