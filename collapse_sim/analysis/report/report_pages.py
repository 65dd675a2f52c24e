"""A report as one HTML file, or as Markdown with its pictures beside it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from collapse_sim.analysis.report.report_document import Report, ReportPicture
from collapse_sim.analysis.text_tables import in_line
from collapse_sim.core.files import explain_write_errors, write_atomic
from collapse_sim.core.printable import escaped

_TEMPLATES = "analysis/report/templates"
_MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}
NUMBERS = "numbers.json"  # the file beside a report in Markdown
_LONGEST = 100_000  # characters of a text in Markdown


def write_html(report: Report, path: Path) -> None:
    """Write the report as one file that loads nothing. Raises StoreError if it cannot be written."""
    with explain_write_errors(path, "--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, html(report))


def write_markdown(report: Report, path: Path) -> Path:
    """Write the report to `path`, its pictures and numbers into a folder beside it, which is returned.

    Raises StoreError if they cannot be written.
    """
    folder = path.with_name(f"{path.stem}_files")
    with explain_write_errors(path, "--out"):
        folder.mkdir(parents=True, exist_ok=True)
        for picture in report.pictures():
            write_atomic(folder / f"{picture.name}{picture.suffix}", picture.content, durable=False)
        write_atomic(folder / NUMBERS, report.numbers + "\n", durable=False)
        write_atomic(path, markdown(report, folder.name))
    return folder


def html(report: Report) -> str:
    """The report as a page. Its policy names its own style and script by their hashes, and allows nothing else."""
    style, script = _source("report.css"), _source("report.js")
    return (
        _html()
        .get_template("report.html")
        .render(
            report=report,
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
            numbers=Markup(_in_script(report.numbers)),
            data_uri=data_uri,
        )
    )


def markdown(report: Report, folder: str) -> str:
    """The report in Markdown; `folder`: where its pictures are, relative to it."""
    text = (
        _markdown()
        .get_template("report.md")
        .render(report=report, folder=Markup(_path(folder)), path=_path, numbers=NUMBERS, md=Markup)
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def data_uri(picture: ReportPicture) -> str:
    """The picture itself, as the address of an image."""
    return f"data:{_MEDIA[picture.suffix]};base64,{base64.b64encode(picture.content).decode()}"


@cache
def _html() -> Environment:
    """Everything is escaped for HTML; control characters and marks of direction become visible first."""
    return Environment(
        loader=PackageLoader("collapse_sim", _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escaped(value) if type(value) is str else value,
    )


@cache
def _markdown() -> Environment:
    """Every text becomes one escaped line of Markdown, except what is marked as safe."""
    environment = Environment(
        loader=PackageLoader("collapse_sim", _TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: in_line(value, _LONGEST) if type(value) is str else value,
    )
    environment.filters |= {"cell": _cell, "fenced": _fenced}
    return environment


def _cell(text: str) -> Markup:
    """A text in a cell of a table, which may be empty."""
    return Markup(in_line(text, _LONGEST, starts=False) if text.strip() else " ")


def _fenced(text: str, language: str) -> Markup:
    """A block of code; its fence is longer than any in the text."""
    longest = max((len(match) for match in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{escaped(text.rstrip())}\n{fence}")


def _path(name: str) -> Markup:
    """A file's name in a link."""
    from urllib.parse import quote

    return Markup(quote(name, errors="surrogatepass"))


def _in_script(json: str) -> str:
    """JSON that cannot end the element that it is in."""
    return json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _source(name: str) -> str:
    source, *_ = PackageLoader("collapse_sim", _TEMPLATES).get_source(_html(), name)
    return source


def _hash(text: str) -> Markup:
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
