"""`collapse-sim report`: everything about one or more runs as a page to read and to pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.cli.examples import complete_run
from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data, say

SUFFIXES = {False: (".html", ".htm"), True: (".md",)}  # by --markdown


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Run directories, or names of runs below ./runs.", autocompletion=complete_run
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The file to write. Default: RUN-report.html in this folder."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write Markdown, and its pictures into a folder beside it.")
    ] = False,
) -> None:
    """Write a report on runs as one HTML file.

    It has what was run, tables, curves, claims, samples, training and costs, needs no other file and no network, and
    may be written of a run that is not finished.
    """
    from collapse_sim.core.files import check_place
    from collapse_sim.store.run_directory import find_run

    folders = list(dict.fromkeys(find_run(run) for run in runs))
    path = _checked(out, markdown) if out is not None else _default(folders, markdown)
    check_place(path.parent, "--out")
    if path.is_dir():
        raise RecipeError(f"--out {path}: is a folder; name a file in it")

    from collapse_sim.analysis.report.report import build
    from collapse_sim.analysis.report.report_pages import write_html, write_markdown

    built = build(folders)
    if markdown:
        say(f"pictures: {write_markdown(built, path)}")
    else:
        write_html(built, path)
    for line in built.warnings:
        say(f"warning: {line}")
    data(str(path), needed=False)


def _checked(path: Path, markdown: bool) -> Path:
    if path.suffix.lower() not in SUFFIXES[markdown]:
        hint = "" if markdown or path.suffix.lower() != ".md" else "; for Markdown, add --markdown"
        raise RecipeError(f"--out {path}: the suffix must be {' or '.join(SUFFIXES[markdown])}{hint}")
    return path


def _default(folders: list[Path], markdown: bool) -> Path:
    """In this folder. The name has the folders above a run that are below this one and `runs`, since runs in them may
    be called the same."""
    name = f"{_name(folders[0].resolve())}-report" if len(folders) == 1 else "report"
    return Path(name + SUFFIXES[markdown][0])


def _name(folder: Path) -> str:
    here = Path.cwd()
    parts = folder.relative_to(here).parts if folder.is_relative_to(here) else (folder.name,)
    return "-".join(parts[1:] if len(parts) > 1 and parts[0] == "runs" else parts) or folder.name
