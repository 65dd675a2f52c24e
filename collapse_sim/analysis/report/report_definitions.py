"""Verdicts by definition of collapse, and rates per generation, in a report: the figures of `compare`'s tables."""

from __future__ import annotations

from collapse_sim.analysis.collapse_definitions import (
    DEFINITIONS,
    DefinitionStatus,
    DefinitionVerdict,
    definition_verdicts,
    rules,
)
from collapse_sim.analysis.definition_tables import STATUS_STYLES, figures_of
from collapse_sim.analysis.rate_tables import rate_tables
from collapse_sim.analysis.rates import rates
from collapse_sim.analysis.report.report_document import (
    Block,
    ReportCell,
    ReportFacts,
    ReportFold,
    ReportNote,
    ReportTable,
)
from collapse_sim.analysis.report.report_tables import from_rich, text_table, tone_of
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
            cell = ReportCell(f"{_SYMBOLS[verdict.status]}{verdict.status}", tone_of(STATUS_STYLES[verdict.status]))
            by_arm[verdict.arm].append(cell)
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


def _figures(verdict: DefinitionVerdict) -> list[str]:
    own = figures_of(verdict)
    change = f"{own.change} per generation" if own.change and verdict.per_generation else own.change
    texts = [verdict.metric, own.before, own.after, change, own.relative, own.p]
    return [verdict.arm, verdict.definition, verdict.status, *(text or "-" for text in texts), verdict.note]


def _rates(results: Results) -> list[Block]:
    """How fast each metric changes per generation in each arm, and whether it levels off."""
    tables = from_rich(rate_tables(results, rates(results), None))
    return [ReportFold("Rates per generation", tables)] if tables else []
