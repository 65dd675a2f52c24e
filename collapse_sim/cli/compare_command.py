"""`collapse-sim compare`: the arms of one or more runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data, document, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from collapse_sim.analysis.plots import Size
    from collapse_sim.analysis.results import Results


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run directories, or names of runs below ./runs.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="Only this metric (may be repeated).")
    ] = None,
    generation: Annotated[
        str | None,
        typer.Option(
            "--generation", metavar="G|last|all", help="Only this generation; last: the last that all arms have."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="ARM", help="The arm that the others are compared with.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also every metric by generation, and differences to the baseline.")
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="SETTING", help="Over a grid's setting; given twice: a map of two."),
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", metavar="NAME", help="With --against: only this arm, or grid.")
    ] = None,
    collapse_at: Annotated[
        str | None,
        typer.Option(
            "--collapse-at",
            metavar="LIMIT",
            help="Where collapse begins: 2.5, '<0.9', or 2x generation 0's (default 1x).",
        ),
    ] = None,
    definitions: Annotated[
        bool, typer.Option("--definitions", help="Which definitions of collapse each arm meets.")
    ] = False,
    rates: Annotated[bool, typer.Option("--rates", help="Changes per generation, and whether they level off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one CSV row per score.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print tables for LaTeX (package booktabs).")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables in Markdown.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw curves with bands (.png, .pdf, .svg).")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="column|page", help="The plot as wide as a paper's column (3.4 in) or page (7)."
        ),
    ] = None,
) -> None:
    """Compare arms: means over seeds with 95 % intervals.

    Shows the last generation that all arms have. --all, --metric and --generation add tables by generation and of
    paired differences to a baseline. --against shows each metric over a setting in which arms differ, --definitions
    verdicts by definition of collapse, --rates changes per generation.
    """
    from dataclasses import replace

    from collapse_sim.analysis.choices import checked_names, chosen_generations
    from collapse_sim.analysis.merged_runs import merge
    from collapse_sim.cli.against import Against, show_against
    from collapse_sim.cli.by_definition import ByDefinition, document_of, show

    formats = {"--json": as_json, "--csv": as_csv, "--latex": latex, "--markdown": markdown}
    if sum(formats.values()) > 1:
        chosen_formats = " and ".join(name for name, on in formats.items() if on)
        raise RecipeError(f"{chosen_formats} exclude each other: choose one")
    by_label = _read(runs)
    results = next(iter(by_label.values())) if len(by_label) == 1 else merge(by_label)
    metrics = checked_names(
        "--metric", metric or results.metrics_without_parts(), list(results.metrics), "the run measures"
    )
    if baseline is not None:
        checked_names("--baseline", [baseline], list(results.arms), "the arms are")
        results = replace(results, baseline=baseline)
    chosen = chosen_generations(generation, results, metrics)
    if plot is not None:
        from collapse_sim.analysis.plots import check_suffix

        check_suffix(plot)
    width = _checked_size(size, plot)
    form = next((name for name, on in formats.items() if on), None)
    asked = Against(against, arm, collapse_at, form, plot, width, baseline, everything)
    asked.check()
    by_definition = ByDefinition(definitions, rates)
    by_definition.check(generation, form, against)
    if against:
        show_against(results, metrics, chosen, generation, asked)
    elif as_json:
        from collapse_sim.analysis.documents import compare_document

        more = document_of(results, metrics, by_definition)
        document(compare_document(by_label, results, results.with_parts(metrics), chosen) | more)
    elif by_definition.any:
        show(results, metrics, form, by_definition)
    elif as_csv:
        from collapse_sim.analysis.documents import csv_text

        data(csv_text(by_label, results.with_parts(metrics), chosen))
    elif latex or markdown:
        _print_paper_tables(results, results.with_parts(metrics) if metric else metrics, chosen, generation, latex)
    else:
        shown = Shown(
            chosen, first=not metric, rest=everything or bool(metric or generation), every=generation == "all"
        )
        _print_all(results, metrics, shown)
    _say_unfinished(by_label)
    if against:
        return
    _say_missing_row_values(by_label)
    if plot is not None:
        _draw(results, results.with_parts(metrics) if metric else metrics, plot, width)


class Shown(NamedTuple):
    """Which tables are printed."""

    generations: list[int] | None  # the requested ones; None: all
    first: bool  # whether to print the table of all metrics at one generation
    rest: bool  # whether to print each metric by generation, and differences to the baseline
    every: bool  # whether to print every generation, however many there are


def _read(runs: Sequence[str]) -> dict[str, Results]:
    """Results by a unique label."""
    from collapse_sim.analysis.choices import labelled
    from collapse_sim.analysis.results import read_results
    from collapse_sim.store.run_directory import find_run

    read = {folder: read_results(folder) for folder in dict.fromkeys(find_run(run) for run in runs)}
    for problem in (problem for results in read.values() for problem in results.problems):
        say(f"warning: {problem}")
    return {label: read[folder] for label, folder in labelled(read).items()}


def _print_paper_tables(
    results: Results, metrics: Sequence[str], chosen: list[int] | None, generation: str | None, latex: bool
) -> None:
    """Of the last generation that all arms have, unless others are asked for."""
    from collapse_sim.analysis.paper_tables import paper_tables
    from collapse_sim.analysis.reached import common

    last = common(results, metrics)
    if generation is None:
        chosen = [] if last is None else [last]
    elif chosen is None:
        chosen = sorted({k for metric in metrics for k in results.scored(metric)})
    if text := paper_tables(results, metrics, chosen, "latex" if latex else "markdown"):
        data(text.rstrip("\n"))


def _print_all(results: Results, metrics: Sequence[str], shown: Shown) -> None:
    """Print the tables of every protocol."""
    from rich.text import Text

    from collapse_sim.analysis.by_protocol import by_protocol, heading_of
    from collapse_sim.analysis.terminal import rendered, stdout_width

    width = stdout_width()
    parts: list[RenderableType] = []
    groups = by_protocol(results)
    for protocol, group in groups.items():
        tables = _tables(group, metrics, shown, width)
        if tables and (protocol is not None or len(groups) > 1):
            parts += [Text(heading_of(protocol), "bold underline"), ""]
        parts += tables
    if parts:
        data(rendered(parts, width))
        if not shown.rest:
            say("for differences to the baseline, every generation, and the length of fits: --all or --metric NAME")


def _tables(results: Results, metrics: Sequence[str], shown: Shown, width: int | None) -> list[RenderableType]:
    from collapse_sim.analysis.by_protocol import training_table
    from collapse_sim.analysis.reached import common
    from collapse_sim.analysis.summary import summary
    from collapse_sim.analysis.table import readable

    last = common(results, metrics)
    generation = shown.generations[0] if shown.generations else last
    parts: list[RenderableType] = []
    if shown.first and generation is not None and any(generation in results.scored(metric) for metric in metrics):
        parts += [*summary(results, metrics, generation, width), ""]
    for metric in metrics if shown.rest else ():
        parts += _metric_tables(results, metric, shown, width)
    if parts and shown.rest:
        generations = shown.generations or list(range(results.generations + 1))
        table = training_table(results, generations if shown.every else readable(generations), width)
        parts += [*table, ""] if table else []
    return parts


def _metric_tables(results: Results, metric: str, shown: Shown, width: int | None) -> list[RenderableType]:
    """One metric by generation, and against the baseline at the last generation that all arms have."""
    from collapse_sim.analysis.parts import parts_of
    from collapse_sim.analysis.reached import common
    from collapse_sim.analysis.table import against_baseline, by_generation, readable

    scored, last = results.scored(metric), common(results, [metric])
    if shown.generations is not None:
        scored = [k for k in shown.generations if k in scored]
        last = scored[-1] if scored else None
    if last is None:
        return []
    parts: list[RenderableType] = []
    if shown.generations is None:
        shown_generations = scored if shown.every else readable(scored, last)
        parts += by_generation(results, metric, shown_generations, width)
        if len(shown_generations) < len(scored):
            parts.append(
                f"{len(shown_generations)} of {len(scored)} generations are shown; all of them: --generation all"
            )
        parts.append("")
    return [*parts, *against_baseline(results, metric, last, width), "", *parts_of(results, metric, last, width)]


def _say_unfinished(by_label: Mapping[str, Results]) -> None:
    from collapse_sim.analysis.reached import unfinished

    for label, run in by_label.items():
        missing = unfinished(run)
        if missing:
            say(f"{label}: {missing}")


def _say_missing_row_values(by_label: Mapping[str, Results]) -> None:
    from collapse_sim.analysis.row_intervals import missing_reason

    for label, run in by_label.items():
        if reason := missing_reason(run):
            say(f"{label}: {reason}")


def _checked_size(size: str | None, plot: Path | None) -> Size | None:
    from collapse_sim.analysis.plots import WIDTHS

    if size is None:
        return None
    if size not in WIDTHS:
        raise RecipeError(f"--size {size}: allowed: {', '.join(WIDTHS)}")
    if plot is None:
        raise RecipeError("--size: is for --plot FILE; add it, or remove --size")
    return cast("Size", size)


def _draw(results: Results, metrics: Sequence[str], path: Path, size: Size | None) -> None:
    from collapse_sim.analysis.fonts import advice
    from collapse_sim.analysis.plots import plot, user_texts

    scored = [metric for metric in metrics if results.scored(metric)]
    plot(results, scored, path, size)
    say(f"plot: {path}")
    boxes = advice(user_texts(results, scored))
    if boxes:
        say(f"note: {boxes}")
