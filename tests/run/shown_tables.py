"""The tables of a report, read from its pages as they are shown."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

from collapse_sim.analysis.report.report_document import Report
from collapse_sim.analysis.report.report_pages import html, markdown

_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[|: -]+")  # the line below the headings of a table in Markdown


class ShownTable(NamedTuple):
    """A table, and the headings above it."""

    section: str
    heading: str  # within the section; "" without one
    headers: list[str]
    rows: list[list[str]]


def html_tables(report: Report) -> list[ShownTable]:
    """The tables of the page, before its script runs."""
    return _Page(html(report)).tables


def markdown_tables(report: Report) -> list[ShownTable]:
    tables: list[ShownTable] = []
    section = heading = ""
    within = False  # a table
    for line in markdown(report, "files").splitlines():
        if line.startswith("## "):
            section, heading = _plain(line[3:]), ""
        elif line.startswith("### "):
            heading = _plain(line[4:])
        cells = [_plain(cell) for cell in _BAR.split(line)[1:-1]] if line.startswith("|") else []
        if cells and not within:
            tables.append(ShownTable(section, heading, cells, []))
        elif cells and not _RULE.fullmatch(line):
            tables[-1].rows.append(cells)
        within = bool(cells)
    return tables


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[ShownTable] = []
        self._section = self._heading = ""
        self._words: list[str] = []
        self._row: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "h3", "th", "td"):
            self._words = []
        elif tag == "br":
            self._words.append(" ")
        elif tag == "tr":
            self._row = []
        elif tag == "table":
            self.tables.append(ShownTable(self._section, self._heading, [], []))

    def handle_data(self, data: str) -> None:
        self._words.append(data)

    def handle_endtag(self, tag: str) -> None:
        text = _spaced("".join(self._words)) if tag in ("h2", "h3", "th", "td") else ""
        if tag == "h2":
            self._section, self._heading = text, ""
        elif tag == "h3":
            self._heading = text
        elif tag in ("th", "td"):
            self._row.append(text)
        elif tag == "tr":
            table = self.tables[-1]
            if table.headers:
                table.rows.append(self._row)
            else:
                table.headers.extend(self._row)


def _plain(text: str) -> str:
    """A text of Markdown without marks and escapes."""
    bold = re.fullmatch(r"\*\*(.*)\*\*", text.strip())
    return _spaced(re.sub(r"\\(.)", r"\1", bold[1] if bold else text))


def _spaced(text: str) -> str:
    """As a browser shows it: white space is one space."""
    return " ".join(text.split())
