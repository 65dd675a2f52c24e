"""What a report says, apart from how it is written: sections of blocks. HTML and Markdown are two forms of it.

All texts are plain: the templates escape them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["", "best", "good", "bad", "faint"]
Urgency = Literal["plain", "faint", "warning"]
_NUMBER = re.compile(r"(?:< )?\(?([+-]?\d[\d,]*(?:\.\d+)?)(?:e([+-]\d+))?(?:[^)]*\)e([+-]\d+))?")


@dataclass(frozen=True)
class ReportNote:
    """A paragraph."""

    text: str
    urgency: Urgency = "plain"
    kind: str = field(default="note", init=False)


@dataclass(frozen=True)
class ReportFacts:
    """Terms and what they are."""

    rows: Sequence[tuple[str, str]]
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True)
class ReportCell:
    text: str
    tone: Tone = ""

    @property
    def order(self) -> float | None:
        """The number that the text begins with, by which a column is sorted; None if there is none."""
        return sort_value(self.text)


@dataclass(frozen=True)
class ReportTable:
    """The first cell of every row is its heading. `sortable`: rows may stand in any order."""

    caption: str
    headers: Sequence[str]  # may have several lines
    rows: Sequence[Sequence[ReportCell]]
    sortable: bool = True
    prose: bool = False  # cells are sentences, which are wrapped, and not figures
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class ReportPicture:
    """`content` is a PNG or SVG file. `wide`: it has small type, and is scrolled where the page is narrower."""

    name: str  # of the file, without suffix
    suffix: Literal[".png", ".svg"]
    content: bytes
    alt: str
    caption: str = ""
    wide: bool = False
    pixels: bool = False  # a grid of small images, whose pixels are drawn as squares
    kind: str = field(default="picture", init=False)


@dataclass(frozen=True)
class ReportGallery:
    """Pictures side by side, as many as fit."""

    pictures: Sequence[ReportPicture]
    kind: str = field(default="gallery", init=False)


@dataclass(frozen=True)
class ReportCode:
    """Lines that are to be copied: commands, or a recipe."""

    text: str
    language: str = ""
    kind: str = field(default="code", init=False)


@dataclass(frozen=True)
class ReportVerdict:
    """A claim, and whether it holds."""

    status: Literal["holds", "fails", "undecided"]
    claim: str
    expect: str
    reason: str
    details: Sequence[str]  # by which test, with which caveats
    kind: str = field(default="verdict", init=False)

    @property
    def symbol(self) -> str:
        return {"holds": "✓", "fails": "✗", "undecided": "?"}[self.status]


@dataclass(frozen=True)
class ReportFold:
    """Blocks that are shown on request."""

    summary: str
    blocks: Sequence[Block]
    kind: str = field(default="fold", init=False)


@dataclass(frozen=True)
class ReportHeading:
    """A heading within a section; `level` 3, or 4 below one of 3."""

    text: str
    level: Literal[3, 4] = 3
    kind: str = field(default="heading", init=False)


Block = (
    ReportNote
    | ReportFacts
    | ReportTable
    | ReportPicture
    | ReportGallery
    | ReportCode
    | ReportVerdict
    | ReportFold
    | ReportHeading
)


@dataclass(frozen=True)
class ReportSection:
    anchor: str  # ASCII letters and "-"
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A whole report; `numbers` is the document of `compare --json`, with all digits."""

    title: str
    summary: Sequence[Block]
    sections: Sequence[ReportSection]
    program: str  # "collapse-sim 0.1.0"
    written: str  # when
    numbers: str  # JSON
    warnings: Sequence[str] = ()  # that the command prints: what is missing or damaged

    def pictures(self) -> Iterator[ReportPicture]:
        """All pictures, in their order."""
        for blocks in (self.summary, *(section.blocks for section in self.sections)):
            yield from _pictures(blocks)


def _pictures(blocks: Sequence[Block]) -> Iterator[ReportPicture]:
    for block in blocks:
        if isinstance(block, ReportPicture):
            yield block
        elif isinstance(block, ReportGallery):
            yield from block.pictures
        elif isinstance(block, ReportFold):
            yield from _pictures(block.blocks)


def sort_value(text: str) -> float | None:
    """The number at the start of a figure: "0.42 ± 0.11" -> 0.42, "(1.2 ± 0.3)e-05" -> 1.2e-05, "< 0.0001" -> 0.0001.

    None without one.
    """
    match = _NUMBER.match(text.strip())
    if match is None:
        return None
    mantissa, power, common_power = match.groups()
    return float(f"{mantissa.replace(',', '')}e{power or common_power or 0}")
