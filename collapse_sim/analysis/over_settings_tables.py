"""Figures over settings as tables: on a terminal, for papers and pages, as JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis.documents import SCHEMA
from collapse_sim.analysis.intervals import Interval
from collapse_sim.analysis.numbers import figure, finite, with_interval
from collapse_sim.analysis.onset import Limit, Place, State, states
from collapse_sim.analysis.over_settings import GENERATION, At, OverSettings, SettingAxis, value_label
from collapse_sim.analysis.paper_tables import Form, PaperCell, PaperTable, written
from collapse_sim.analysis.reached import divergences
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scale import UNBOUNDED
from collapse_sim.analysis.table import fewer_seeds, figure_column, metric_notes, readable, seeds_over
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks

MARKS: Mapping[State | None, str] = {"collapsed": "†", "unclear": "?", "not collapsed": "", None: ""}
_CSV = ("run", "metric", "line", "arm", "generation")
_FIGURES = ("n", "mean", "low", "high", "theory", "collapse")


class Columns:
    """The rows and columns of a table: values by lines, or the second setting by the first, as in a map."""

    def __init__(self, over: OverSettings, results: Results) -> None:
        self.cells: list[list[Place | None]]
        absent: list[Place | None]
        if len(over.axes) == 2:
            across, down = over.axes
            (line,) = over.lines
            self.corner = f"{down.path} \\ {across.path}"
            self.headers = [value_label(value) for value in thinned(across)]
            self.names = [value_label(value) for value in thinned(down)]
            self.cells = [[line.places.get((x, y)) for y in thinned(down)] for x in thinned(across)]
            return
        (axis,) = over.axes
        self.corner = axis.path
        self.headers = [line.label for line in over.lines]
        self.names = axis.labels()
        self.cells = [[line.places.get((value,)) for value in axis.values] for line in over.lines]
        if over.others:
            self.names += over.others
            absent = [None] * len(over.others)
            self.cells = [column + absent for column in self.cells]
            references: list[Place | None] = [over.reference(arm) for arm in over.others]
            self.headers.append(f"without {axis.path}")
            absent = [None] * len(axis.values)
            self.cells.append(absent + references)


def thinned(axis: SettingAxis) -> list[Any]:
    """The values that tables show: of many generations only some."""
    return readable(axis.values) if axis.path == GENERATION else list(axis.values)


def over_settings_tables(
    results: Results, metric: str, over: OverSettings, limit: Limit, width: int | None
) -> list[RenderableType]:
    """The table of one metric, with notes; [] without a score."""
    shown = states(results, metric, tested(over), limit)
    layout = Columns(over, results)
    means = {place: mean for place in tested(over) if (mean := _mean(results, metric, place))}
    if not means:
        return []
    theory = {place: value for place in means if (value := _theory(results, metric, place)) is not None}
    names = [Text(name) for name in layout.names]
    columns = []
    for header, column in zip(layout.headers, layout.cells, strict=True):
        texts = [None if place is None or place not in means else _figure(means[place]) for place in column]
        counts = [
            f"{MARKS[shown.get(place)]:<1}{fewer_seeds(results, place.arm, means.get(place))}" if place else " "
            for place in column
        ]
        columns.append(figure_column(header, texts, counts=counts))
        if len(over.axes) == 1 and any(place in theory for place in column):
            values = [None if place is None or place not in theory else figure(theory[place]) for place in column]
            columns.append(figure_column("theory", values, ["dim"] * len(values)))
    title = Text.assemble((metric, "bold"), _title(results, metric, over, list(means.values())))
    notes = [Text(line, "dim") for line in _notes(results, metric, over, limit, shown)]
    return [
        title,
        *blocks(TableColumn(layout.corner, names), columns, width),
        *notes,
        *map(Text, divergences(results)),
        *metric_notes(results, metric),
    ]


def paper_form(results: Results, metrics: Sequence[str], over: OverSettings, limit: Limit, form: Form) -> str:
    """LaTeX or Markdown: a table for each metric."""
    tables = []
    for metric in metrics:
        shown, layout = states(results, metric, tested(over), limit), Columns(over, results)
        means = [mean for place in tested(over) if (mean := _mean(results, metric, place))]
        if not means:
            continue
        headers, columns = [], []
        for header, column in zip(layout.headers, layout.cells, strict=True):
            headers.append(header)
            columns.append([_paper_cell(results, metric, place, shown) for place in column])
            theory = [None if place is None else _theory(results, metric, place) for place in column]
            if len(over.axes) == 1 and any(value is not None for value in theory):
                headers.append(f"{header}, theory")
                columns.append([PaperCell(None if value is None else figure(value)) for value in theory])
        rows = [(name, cells) for name, *cells in zip(layout.names, *columns, strict=True)]
        rule, *notes = _notes(results, metric, over, limit, shown)
        caption = f"{results.name}: {metric}{_title(results, metric, over, means)}{f'. {rule}' if shown else ''}"
        notes += divergences(results)
        notes += [text for of in (results.notes, results.warnings) if (text := of.get(metric))]
        tables.append(PaperTable(caption, [(header, None) for header in headers], rows, notes, layout.corner))
    return written(tables, form)


def over_settings_document(
    results: Results, metrics: Sequence[str], over: OverSettings, limit: Limit
) -> dict[str, Any]:
    """The JSON document: every mean is that of `compare --json`; `collapse` is null where nothing can be tested."""
    return {
        "schema": SCHEMA,
        "run": results.name,
        "against": [axis.path for axis in over.axes],
        "values": {axis.path: list(axis.values) for axis in over.axes},
        "generation": over.generation,
        "following": list(over.following),
        "metrics": {
            metric: {
                "better": results.metrics[metric],
                "unit": results.units.get(metric),
                "bounds": list(results.bounds.get(metric, UNBOUNDED)),
                "collapse": words(results, metric, over, limit),
                "cells": [
                    {"line": label, "arm": place.arm, "generation": place.generation, "settings": settings, **figures}
                    for label, place, settings, figures in _cells(results, metric, over, limit)
                ],
            }
            for metric in metrics
        },
    }


def over_settings_csv(results: Results, metrics: Sequence[str], over: OverSettings, limit: Limit) -> str:
    """A row for each metric, arm and generation; settings are columns "arm.PATH", as in `compare --csv`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    paths = [axis.path for axis in over.axes if axis.path != GENERATION]
    writer.writerow([*_CSV, *(f"arm.{path}" for path in paths), *_FIGURES])
    for metric in metrics:
        for label, place, settings, figures in _cells(results, metric, over, limit):
            own = [settings.get(path) for path in paths]
            writer.writerow([results.name, metric, label, *place, *own, *(figures[name] for name in _FIGURES)])
    return out.getvalue()


def tested(over: OverSettings) -> list[Place]:
    """All places of the lines; over one setting also those of the arms without it."""
    references = [over.reference(arm) for arm in over.others] if len(over.axes) == 1 else []
    return [*over.places(), *references]


def words(results: Results, metric: str, over: OverSettings, limit: Limit) -> str | None:
    """The rule in words; None if it decides nothing for this metric."""
    side = limit.side_for(results, metric)
    if side is None:
        return None
    number = len({place for place in tested(over) if not (limit.default and place.generation == 0)})
    return f"significantly {limit.words(side)} (5 % over {number} cells together, Holm)"


def _cells(
    results: Results, metric: str, over: OverSettings, limit: Limit
) -> list[tuple[str | None, Place, dict[str, Any], dict[str, Any]]]:
    """(line, arm and generation, values of the axes, figures) of every cell with a score."""
    shown = states(results, metric, tested(over), limit)
    placed: list[tuple[str | None, Place, At]] = [
        (line.label, place, at) for line in over.lines for at, place in line.places.items()
    ]
    if len(over.axes) == 1:
        placed += [(None, over.reference(arm), (None,)) for arm in over.others]
    cells = []
    for label, place, at in placed:
        mean = _mean(results, metric, place)
        if mean is not None:
            ends = {name: finite(value) for name, value in mean._asdict().items() if name in ("mean", "low", "high")}
            theory = finite(_theory(results, metric, place))
            figures = {"n": mean.n, **ends, "theory": theory, "collapse": shown.get(place)}
            paths = (axis.path for axis in over.axes)
            cells.append((label, place, dict(zip(paths, at, strict=True)), figures))
    return cells


def _title(results: Results, metric: str, over: OverSettings, means: Sequence[Interval]) -> str:
    unit, better = results.units.get(metric, ""), results.metrics[metric]
    details = ", ".join(part for part in (unit, f"{better} is better" if better else "") if part)
    paths = " and ".join(axis.path for axis in over.axes)
    when = "" if over.generation is None else f" at generation {over.generation}"
    return f"{f' ({details})' if details else ''} over {paths}{when}: mean over {seeds_over(means)}"


def _notes(results: Results, metric: str, over: OverSettings, limit: Limit, shown: Mapping[Place, State]) -> list[str]:
    rule = words(results, metric, over, limit)
    notes = []
    if rule is None:
        notes.append(
            f"{metric} has no better direction, so where collapse begins has to be stated: "
            f"--collapse-at '<NUMBER' or '>NUMBER'"
        )
    elif not shown:
        notes.append("where collapse begins needs at least two seeds")
    else:
        unclear = "; ? unclear" if "unclear" in shown.values() else ""
        notes.append(f"† collapsed: {rule}{unclear}")
    if len(over.axes) == 2 and over.others:
        notes.append(f"not in this map, without one of the settings: {', '.join(over.others)}")
    if over.following:
        notes.append(f"changes with the chosen settings: {', '.join(over.following)}")
    return notes


def _paper_cell(results: Results, metric: str, place: Place | None, shown: Mapping[Place, State]) -> PaperCell:
    mean = None if place is None else _mean(results, metric, place)
    if place is None or mean is None or not mean.finite:
        return PaperCell(None)
    return PaperCell(_figure(mean), count=MARKS[shown.get(place)] + fewer_seeds(results, place.arm, mean))


def _mean(results: Results, metric: str, place: Place) -> Interval | None:
    return results.mean(place.arm, metric, place.generation)


def _theory(results: Results, metric: str, place: Place) -> float | None:
    return results.theory_at(place.arm, metric, place.generation)


def _figure(mean: Interval) -> str:
    return with_interval(mean.mean, mean.low, mean.high)
