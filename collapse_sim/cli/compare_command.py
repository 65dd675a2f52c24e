"""`collapse-sim compare`: the arms of one or more runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data, document, say

if TYPE_CHECKING:
    from rich.console import RenderableType

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
        str | None, typer.Option("--baseline", metavar="ARM", help="The arm that differences are taken to.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also every metric by generation, and differences to the baseline.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one CSV row a score.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw curves with bands (.png, .pdf, .svg).")
    ] = None,
) -> None:
    """Compare arms: means over seeds with 95 % intervals.

    At the last generation that all arms have; with --all, --metric or --generation also by generation, and the paired
    differences to a baseline.
    """
    from dataclasses import replace

    from collapse_sim.analysis.merged_runs import merge

    if as_json and as_csv:
        raise RecipeError("--json and --csv exclude each other: choose one")
    found = _read(runs)
    results = next(iter(found.values())) if len(found) == 1 else merge(found)
    metrics = _chosen("--metric", metric or results.whole(), list(results.metrics), "the run measures")
    if baseline is not None:
        _chosen("--baseline", [baseline], list(results.arms), "the arms are")
        results = replace(results, baseline=baseline)
    chosen = _generations(generation, results, metrics)
    if plot is not None:
        _check_suffix(plot)
    if as_json:
        _print_json(found, results, results.with_parts(metrics), chosen)
    elif as_csv:
        from collapse_sim.analysis.documents import csv_text

        data(csv_text(found, results.with_parts(metrics), chosen))
    else:
        shown = Shown(
            chosen, first=not metric, rest=everything or bool(metric or generation), every=generation == "all"
        )
        _print_all(results, metrics, shown)
    _say_unfinished(found)
    _say_lost(found)
    if plot is not None:
        _draw(results, results.with_parts(metrics) if metric else metrics, plot)


class Shown(NamedTuple):
    """Which tables are printed."""

    generations: list[int] | None  # those asked for; None: all
    first: bool  # the table of all metrics at one generation
    rest: bool  # each metric by generation, and differences to the baseline
    every: bool  # no generation is left out, however many there are


def _read(runs: Sequence[str]) -> dict[str, Results]:
    """Results by a label that is unique: the run's name, or the folder where two runs have one name."""
    from collapse_sim.analysis.results import read_results
    from collapse_sim.store.run_directory import find_run

    folders = list(dict.fromkeys(find_run(run) for run in runs))
    read = [(folder, read_results(folder)) for folder in folders]
    for problem in (problem for _, results in read for problem in results.problems):
        say(f"warning: {problem}")
    names = [results.name for _, results in read]
    return {results.name if names.count(results.name) == 1 else str(folder): results for folder, results in read}


def _chosen(option: str, wanted: Sequence[str], allowed: list[str], words: str) -> list[str]:
    """`wanted` without repetition. Raises RecipeError with every name that is not allowed."""
    from collapse_sim.core.registry import did_you_mean

    problems = [
        f"{option}: there is no {name!r}{did_you_mean(name, allowed)}; {words}: {', '.join(allowed)}"
        for name in wanted
        if name not in allowed
    ]
    if problems:
        raise RecipeError(*problems)
    return list(dict.fromkeys(wanted))


def _generations(text: str | None, results: Results, metrics: Sequence[str]) -> list[int] | None:
    """The generations asked for; None: all that are scored."""
    if text in (None, "all"):
        return None
    if text == "last":
        from collapse_sim.analysis.reached import common

        last = common(results, metrics)
        return [] if last is None else [last]
    scored = sorted({k for metric in metrics for k in results.scored(metric)})
    if text is None or not text.isdecimal():
        raise RecipeError(f"--generation: {text!r} is no generation; allowed: a number, 'last', 'all'")
    if int(text) not in scored:
        there = f"scored are: {', '.join(map(str, scored))}" if scored else "none is scored yet"
        raise RecipeError(
            f"--generation: generation {text} has no scores (the recipe ends at {results.generations}); {there}"
        )
    return [int(text)]


def _print_json(
    found: Mapping[str, Results], results: Results, metrics: Sequence[str], chosen: Sequence[int] | None
) -> None:
    from collapse_sim.analysis.documents import SCHEMA, differences_document, run_document

    differences = differences_document(results, metrics, chosen)
    if len(found) == 1:
        document(run_document(results, metrics, chosen) | differences)
        return
    each = [run_document(run, [m for m in metrics if m in run.metrics], chosen) for run in found.values()]
    document({"schema": SCHEMA, "runs": each, **differences})


def _print_all(results: Results, metrics: Sequence[str], shown: Shown) -> None:
    """The tables of every protocol."""
    from rich.text import Text

    from collapse_sim.analysis.by_protocol import by_protocol
    from collapse_sim.analysis.terminal import rendered, stdout_width

    width = stdout_width()
    parts: list[RenderableType] = []
    groups = by_protocol(results)
    for protocol, under in groups.items():
        tables = _tables(under, metrics, shown, width)
        if tables and (protocol is not None or len(groups) > 1):
            said = f"protocol: {protocol}" if protocol else "no protocol: solved, not trained"
            parts += [Text(said, "bold underline"), ""]
        parts += tables
    if parts:
        data(rendered(parts, width))
        if not shown.rest:
            say("differences to the baseline, every generation, and how long fits were: --all, or --metric NAME")


def _tables(results: Results, metrics: Sequence[str], shown: Shown, width: int | None) -> list[RenderableType]:
    from collapse_sim.analysis.by_protocol import training_table
    from collapse_sim.analysis.reached import common
    from collapse_sim.analysis.summary import summary
    from collapse_sim.analysis.table import readable

    last = common(results, metrics)
    at = shown.generations[0] if shown.generations else last
    parts: list[RenderableType] = []
    if shown.first and at is not None and any(at in results.scored(metric) for metric in metrics):
        parts += [*summary(results, metrics, at, width), ""]
    for metric in metrics if shown.rest else ():
        parts += _of_one(results, metric, shown, width)
    if parts and shown.rest:
        generations = shown.generations or list(range(results.generations + 1))
        table = training_table(results, generations if shown.every else readable(generations), width)
        parts += [*table, ""] if table else []
    return parts


def _of_one(results: Results, metric: str, shown: Shown, width: int | None) -> list[RenderableType]:
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
        thinned = scored if shown.every else [k for k in scored if k in {*readable(scored), last}]
        parts += by_generation(results, metric, thinned, width)
        if len(thinned) < len(scored):
            parts.append(f"{len(thinned)} of {len(scored)} generations are shown; all of them: --generation all")
        parts.append("")
    return [*parts, *against_baseline(results, metric, last, width), "", *parts_of(results, metric, last, width)]


def _say_unfinished(found: Mapping[str, Results]) -> None:
    from collapse_sim.analysis.reached import unfinished

    for label, run in found.items():
        lacking = unfinished(run)
        if lacking:
            say(f"{label}: {lacking}")


def _say_lost(found: Mapping[str, Results]) -> None:
    from collapse_sim.analysis.row_intervals import lost

    for label, run in found.items():
        if why := lost(run):
            say(f"{label}: {why}")


def _check_suffix(path: Path) -> None:
    from collapse_sim.analysis.plots import SUFFIXES

    if path.suffix.lower() not in SUFFIXES:
        raise RecipeError(f"--plot: {path}: the suffix says the format; allowed: {', '.join(SUFFIXES)}")


def _draw(results: Results, metrics: Sequence[str], path: Path) -> None:
    from collapse_sim.analysis.fonts import advice
    from collapse_sim.analysis.plots import named, plot

    scored = [metric for metric in metrics if results.scored(metric)]
    plot(results, scored, path)
    say(f"plot: {path}")
    boxes = advice(named(results, scored))
    if boxes:
        say(f"note: {boxes}")
