"""Tables of verdicts by definition of collapse, for a terminal and for papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis.collapse_definitions import DEFINITIONS, Definition, DefinitionStatus, DefinitionVerdict
from collapse_sim.analysis.numbers import bare_probability, figure, percent, share_with_interval, with_interval
from collapse_sim.analysis.paper_tables import Form, PaperCell, PaperTable, written
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.table import arm_notes, figure_column
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks
from collapse_sim.ui.palette import COLORS, DONE, WARNING

STATUS_STYLES: dict[DefinitionStatus, str] = {
    "seen": WARNING,
    "not seen": DONE,
    "undecided": COLORS[1],
    "not measured": "dim",
}
_ABSENT = "-"


class DefinitionFigures(NamedTuple):
    """The figures behind a verdict as texts; None: there is none."""

    before: str | None
    after: str | None
    change: str | None  # with its interval; a relative rate in per cent
    relative: str | None
    p: str | None


def definition_tables(
    results: Results, verdicts: Sequence[DefinitionVerdict], width: int | None
) -> list[RenderableType]:
    """Arms by definitions, then the figures of every definition that is measured, with its rule."""
    measured, unmeasured = _measured(verdicts)
    cells = {(verdict.arm, verdict.definition): verdict for verdict in verdicts}
    columns = []
    for definition in measured:
        statuses = [cells[arm, definition].status for arm in results.arms]
        columns.append(TableColumn(definition.replace(" ", "\n"), [_status(status) for status in statuses]))
    parts: list[RenderableType] = [
        Text.assemble((results.name, "bold"), f" by definition of collapse{_over(verdicts)}")
    ]
    if columns:
        parts += blocks(TableColumn("arm", [Text(arm) for arm in results.arms]), columns, width)
    parts += [Text(f"{definition}: not measured: {why}", "dim") for definition, why in unmeasured.items()]
    for definition in measured:
        own = [cells[arm, definition] for arm in results.arms]
        parts += ["", *_figure_tables(definition, own, width)]
    return parts


def paper_definitions(results: Results, verdicts: Sequence[DefinitionVerdict], form: Form) -> str:
    """Arms by definitions: the figure of each, and the verdict; rules as notes."""
    measured, unmeasured = _measured(verdicts)
    if not measured:
        return ""
    cells = {(verdict.arm, verdict.definition): verdict for verdict in verdicts}
    rows = [(arm, [_paper_cell(cells[arm, definition]) for definition in measured]) for arm in results.arms]
    notes = [f"{definition}: {cells[results.arms[0], definition].rule}" for definition in measured]
    notes += [f"{definition}: not measured: {why}" for definition, why in unmeasured.items()]
    caption = f"{results.name} by definition of collapse{_over(verdicts)}; change, 95 % interval and verdict"
    return written([PaperTable(caption, [(definition, None) for definition in measured], rows, notes)], form)


def _measured(verdicts: Sequence[DefinitionVerdict]) -> tuple[list[Definition], dict[Definition, str]]:
    """The definitions that are measured in any arm, and why the others are not."""
    by_definition = {definition: [v for v in verdicts if v.definition == definition] for definition in DEFINITIONS}
    measured = [name for name, own in by_definition.items() if any(v.status != "not measured" for v in own)]
    return measured, {name: own[0].note for name, own in by_definition.items() if own and name not in measured}


def _over(verdicts: Sequence[DefinitionVerdict]) -> str:
    """ ": generation 5 against generation 0, over 3 seeds"."""
    lasts = sorted({verdict.generation for verdict in verdicts if verdict.generation is not None})
    seeds = sorted({verdict.seeds for verdict in verdicts if verdict.seeds})
    if not lasts or not seeds:
        return ""
    last, count = (" to ".join(map(str, dict.fromkeys((each[0], each[-1])))) for each in (lasts, seeds))
    return f": generation {last} against generation 0 of the same seed, over {count} seed{'s' * (seeds[-1] != 1)}"


def _status(status: DefinitionStatus) -> Text:
    return Text(_ABSENT if status == "not measured" else status, STATUS_STYLES[status])


def _figure_tables(
    definition: Definition, verdicts: Sequence[DefinitionVerdict], width: int | None
) -> list[RenderableType]:
    rate = any(verdict.per_generation for verdict in verdicts)
    figures = [figures_of(verdict) for verdict in verdicts]
    columns = [
        TableColumn("verdict", [_status(verdict.status) for verdict in verdicts]),
        TableColumn("by metric", [Text(verdict.metric or _ABSENT) for verdict in verdicts]),
        figure_column("generation 0", [own.before for own in figures]),
        figure_column("last", [own.after for own in figures]),
        figure_column("per generation" if rate else "change", [own.change for own in figures]),
    ]
    if not rate:
        columns.append(figure_column("relative", [own.relative for own in figures]))
    columns.append(figure_column("p", [own.p for own in figures]))
    tables = blocks(TableColumn("arm", [Text(verdict.arm) for verdict in verdicts]), columns, width)
    notes = arm_notes([(verdict.arm, verdict.note) for verdict in verdicts], len(verdicts))
    return [Text(definition, "bold"), *tables, Text(verdicts[0].rule, "dim"), *notes]


def figures_of(verdict: DefinitionVerdict) -> DefinitionFigures:
    change = None
    if verdict.figure is not None and verdict.per_generation and verdict.relative is not None:
        change = f"{share_with_interval(verdict.figure, verdict.low, verdict.high)} %"
    elif verdict.figure is not None:
        change = with_interval(verdict.figure, verdict.low, verdict.high, signed=True)
    return DefinitionFigures(
        before=None if verdict.before is None else figure(verdict.before),
        after=None if verdict.after is None else figure(verdict.after),
        change=change,
        relative=None if verdict.relative is None or verdict.per_generation else percent(verdict.relative),
        p=None if verdict.p is None else bare_probability(verdict.p),
    )


def _paper_cell(verdict: DefinitionVerdict) -> PaperCell:
    """Rates stay out: they are in the tables of --rates."""
    text = None if verdict.per_generation else figures_of(verdict).change
    return PaperCell(text, count="" if verdict.status == "not measured" else verdict.status)
