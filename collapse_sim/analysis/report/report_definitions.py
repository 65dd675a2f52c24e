"""Verdicts by definition of collapse, and rates per generation, in a report."""

from __future__ import annotations

from collapse_sim.analysis.collapse_definitions import (
    DEFINITIONS,
    DefinitionStatus,
    DefinitionVerdict,
    definition_verdicts,
    rules,
)
from collapse_sim.analysis.numbers import figure, percent, probability, with_interval
from collapse_sim.analysis.rates import MetricRate, rates
from collapse_sim.analysis.report.report_document import (
    Block,
    ReportCell,
    ReportFacts,
    ReportFold,
    ReportNote,
    ReportTable,
)
from collapse_sim.analysis.report.report_tables import text_table
from collapse_sim.analysis.results import Results

_SYMBOLS: dict[DefinitionStatus, str] = {"seen": "● ", "not seen": "○ ", "undecided": "? ", "not measured": ""}


def definition_blocks(results: Results) -> list[Block]:
    """A table of arms by definitions, the figures behind it, the rules; and the rates of all metrics."""
    if results.generations < 1:
        return [ReportNote("A recipe of one generation has nothing to compare generation 0 with.")]
    verdicts = definition_verdicts(results)
    measured = [verdict for verdict in verdicts if verdict.status != "not measured"]
    if not measured:
        notes = dict.fromkeys(verdict.note for verdict in verdicts if verdict.note)
        return [ReportNote(f"Not measured: {'; '.join(notes)}."), *_rates(results)]
    by_arm: dict[str, list[ReportCell]] = {arm: [ReportCell(arm)] for arm in results.arms}
    shown = [name for name in DEFINITIONS if any(verdict.definition == name for verdict in measured)]
    for verdict in verdicts:
        if verdict.definition in shown:
            by_arm[verdict.arm].append(_status(verdict))
    left_out: dict[str, dict[str, None]] = {}  # {why: definitions}
    for verdict in verdicts:
        if verdict.definition not in shown:
            left_out.setdefault(verdict.note, {})[verdict.definition] = None
    caption = "Which definitions of model collapse each arm meets, comparing its last generation with generation 0"
    figures = [["arm", "definition", "verdict", "metric", "generation 0", "last", "change", "relative", "p", "note"]]
    figures += [_figures(verdict) for verdict in measured]
    return [
        ReportTable(caption, ["arm", *shown], list(by_arm.values())),
        *(ReportNote(f"Not measured: {', '.join(names)} ({why}).", "faint") for why, names in left_out.items()),
        ReportFold(
            "The figures behind these verdicts", [text_table("Paired by seed; the metric that decided", figures)]
        ),
        ReportFold("The rules", [ReportFacts(list(rules().items()))]),
        *_rates(results),
    ]


def _status(verdict: DefinitionVerdict) -> ReportCell:
    text = f"{_SYMBOLS[verdict.status]}{verdict.status}"
    if verdict.status == "seen":
        return ReportCell(text, "bad")
    return ReportCell(text, {"not seen": "good", "not measured": "faint"}.get(verdict.status, ""))  # type: ignore[arg-type]


def _figures(verdict: DefinitionVerdict) -> list[str]:
    def shown(value: float | None) -> str:
        return "-" if value is None else figure(value)

    change = "-" if verdict.figure is None else with_interval(verdict.figure, verdict.low, verdict.high, signed=True)
    return [
        verdict.arm,
        verdict.definition,
        verdict.status,
        verdict.metric or "-",
        shown(verdict.before),
        shown(verdict.after),
        change,
        "-" if verdict.relative is None else percent(verdict.relative),
        "-" if verdict.p is None else probability(verdict.p),
        verdict.note,
    ]


def _rates(results: Results) -> list[Block]:
    """Arms by metrics: how fast each changes per generation, and whether it levels off."""
    by_cell = {(rate.arm, rate.metric): rate for rate in rates(results)}
    metrics = [metric for metric in results.metrics_without_parts() if any(of == metric for _, of in by_cell)]
    if not metrics:
        return []
    headers = ["arm", *(f"{metric}\nper generation" for metric in metrics)]
    rows = [
        [ReportCell(arm), *(ReportCell(_rate(by_cell.get((arm, metric)))) for metric in metrics)]
        for arm in results.arms
    ]
    notes = dict.fromkeys(rate.note for rate in by_cell.values() if rate.note)
    caption = "Change per generation: means of the seeds' slopes with 95 % intervals; in % if all scores are above 0"
    lines: list[Block] = [ReportNote(note, "faint") for note in notes]
    return [ReportFold("Rates per generation", [ReportTable(caption, headers, rows), *lines])]


def _rate(rate: MetricRate | None) -> str:
    if rate is None or rate.slope is None:
        return "-"
    scale = 100.0 if rate.relative else 1.0
    low, high = (None if end is None else scale * end for end in (rate.low, rate.high))
    text = with_interval(scale * rate.slope, low, high, signed=True) + (" %" if rate.relative else "")
    if rate.shape == "levels off" and rate.limit is not None:
        return f"{text}, levels off near {figure(rate.limit)}"
    return f"{text}, {rate.shape}" if rate.shape in ("levels off", "keeps going") else text
