"""A report on one run or several: what was run, what came out, what it cost, and how to run it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapse_sim import __version__
from collapse_sim.analysis.choices import labelled
from collapse_sim.analysis.documents import compare_document
from collapse_sim.analysis.fit_costs import costs_table, costs_total
from collapse_sim.analysis.fit_records import FitRecord, fit_records
from collapse_sim.analysis.merged_runs import merge
from collapse_sim.analysis.reached import divergences
from collapse_sim.analysis.report.report_definitions import definition_blocks
from collapse_sim.analysis.report.report_document import (
    Block,
    Report,
    ReportFold,
    ReportHeading,
    ReportNote,
    ReportSection,
    ReportVerdict,
)
from collapse_sim.analysis.report.report_gaps import missing_scores, progress
from collapse_sim.analysis.report.report_pictures import curve_picture, sample_blocks, training_picture
from collapse_sim.analysis.report.report_sessions import (
    RecordedSession,
    again,
    reuse,
    sessions_of,
    what_was_run,
)
from collapse_sim.analysis.report.report_settings import setting_blocks
from collapse_sim.analysis.report.report_tables import comparison, metric_tables, text_table, training_lengths
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.analysis.row_intervals import missing_reason
from collapse_sim.analysis.training_curves import curves_table, why_none
from collapse_sim.analysis.verdicts import Verdict, decide_all
from collapse_sim.core.errors import StoreError
from collapse_sim.core.printable import json_text
from collapse_sim.store.run_directory import read_journal, read_run
from collapse_sim.ui import formatting
from collapse_sim.ui.run_status import run_status

_LISTED = 12  # lines on what is missing that are shown at once
_READING = (
    "A run is a table: arms (strategies) by generations by seeds. Generation 0 is a model fitted to real rows; "
    "generation k is fitted to what its arm says, such as samples of generation k - 1.",
    "A figure is a mean over seeds ± its 95 % Student-t interval; 0.047 [0.020, 0.103] shows both ends if they differ. "
    "In a run of one seed it may be an interval over held-out rows, as the heading then says.",
    "* marks the best mean and every arm that is not significantly worse. Arms are compared seed by seed (paired). "
    "The column “reads” is at 5 % over all arms of its table together (Holm).",
    "Curves: means over seeds, bands are 95 % intervals, theory is dashed, a cross is where a fit diverged.",
    "All digits of all figures are in this file, as “compare --json” prints them.",
)


@dataclass(frozen=True)
class _Run:
    label: str
    folder: Path
    content: Mapping[str, Any]  # of run.json
    results: Results
    sessions: list[RecordedSession]
    missing: list[str]
    records: list[FitRecord]
    no_records: str  # why there are none; "" if there are
    problems: list[str]

    @property
    def finished(self) -> bool:
        return not self.missing


def build(folders: Sequence[Path]) -> Report:
    """The report on the runs in these folders, each once. Nothing is written.

    Raises RecipeError if a folder is no run, StoreError if one is damaged or of a newer schema.
    """
    runs = _read(list(dict.fromkeys(folders)))
    by_label = {run.label: run.results for run in runs}
    merged = runs[0].results if len(runs) == 1 else merge(by_label)
    metrics = [metric for metric in merged.metrics_without_parts() if merged.scored(metric)]
    settings = setting_blocks(merged)
    sections = [
        ReportSection("run", "What was run", _of_each(runs, _what)),
        ReportSection("comparison", "Comparison", _or(comparison(merged), "Nothing is scored yet.")),
        ReportSection("claims", "Claims", _of_each(runs, _claims)),
        ReportSection("collapse", "Collapse, by definition", _or(definition_blocks(merged), "Nothing is scored yet.")),
        ReportSection("metrics", "Curves and figures of each metric", _metrics(merged, metrics)),
        *([ReportSection("settings", "Over the settings of a grid", settings)] if settings else []),
        ReportSection("samples", "Samples by generation", _of_each(runs, _samples)),
        ReportSection("training", "Training", _of_each(runs, _training)),
        ReportSection("costs", "Costs, and what was reused", _of_each(runs, _costs)),
        ReportSection("again", "How to run it again", _of_each(runs, _again)),
        ReportSection("reading", "How to read this report", [ReportNote(text) for text in _READING]),
    ]
    return Report(
        title=" + ".join(by_label),
        summary=_of_each(runs, _summary),
        sections=sections,
        program=f"collapse-sim {__version__}",
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        numbers=json_text(compare_document(by_label, merged, merged.with_parts(merged.metrics_without_parts()))),
        warnings=[line for run in runs for line in _warnings(run)],
    )


def _read(folders: Sequence[Path]) -> list[_Run]:
    """Runs with unique labels: the run's name, or its folder where several have the same name."""
    read = {folder: read_results(folder) for folder in folders}
    runs = []
    for label, folder in labelled(read).items():
        lines, problems = read_journal(folder)
        records: list[FitRecord] = []
        no_records = ""
        try:
            records, unread = fit_records(folder)
            problems += unread
        except StoreError:
            no_records = "Its store is not where it was, so training curves and costs are not known."
        results, content = read[folder], read_run(folder)
        missing = missing_scores(results)
        runs.append(_Run(label, folder, content, results, sessions_of(lines), missing, records, no_records, problems))
    return runs


def _warnings(run: _Run) -> list[str]:
    unfinished = (
        [] if run.finished else [f"{run.label}: not finished: {progress(run.results)}; the report says what is missing"]
    )
    return [*unfinished, *dict.fromkeys(run.problems)]


def _of_each(runs: Sequence[_Run], blocks_of: Callable[[_Run, int], list[Block]]) -> list[Block]:
    """The blocks of every run, below its name if there are several."""
    blocks: list[Block] = []
    for number, run in enumerate(runs):
        blocks += [ReportHeading(run.label)] if len(runs) > 1 else []
        blocks += blocks_of(run, number)
    return blocks


def _summary(run: _Run, number: int) -> list[Block]:
    """The description, how far the run is, and what is missing."""
    results = run.results
    settings = run.content.get("settings") or {}
    blocks: list[Block] = []
    if isinstance(settings, Mapping) and settings.get("description"):
        blocks.append(ReportNote(str(settings["description"])))
    size = (
        f"{formatting.plural(len(results.arms), 'arm')}, generations 0 to {results.generations}, "
        f"{formatting.plural(len(results.seeds), 'seed')}"
    )
    if run.finished:
        blocks.append(ReportNote(f"Finished: {size}; {progress(results)}."))
    else:
        word = run_status(run.folder).word
        state = "it is running now" if word in ("running", "starting") else f"its state: {word}"
        blocks.append(ReportNote(f"NOT FINISHED ({state}): {progress(results)} so far, of {size}.", "warning"))
        lines: list[Block] = [ReportNote(f"Missing: {line}", "warning") for line in run.missing]
        blocks += lines[:_LISTED]
        if len(lines) > _LISTED:
            blocks.append(ReportFold(f"{len(lines) - _LISTED} more that is missing", lines[_LISTED:]))
    if results.claims:
        blocks.append(ReportNote(f"Claims: {_counts(decide_all(results.claims, results))}."))
    blocks += [ReportNote(f"Diverged: {line}", "warning") for line in divergences(results)]
    blocks += [ReportNote(f"Problem: {problem}", "warning") for problem in dict.fromkeys(run.problems)]
    if reason := missing_reason(results):
        blocks.append(ReportNote(f"There are {reason}.", "faint"))
    return blocks


def _counts(verdicts: Sequence[Verdict]) -> str:
    """ "3 hold, 1 fails, 2 undecided"."""
    numbers = {status: sum(v.status == status for v in verdicts) for status in ("holds", "fails", "undecided")}
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "undecided": ("is undecided", "are undecided")}
    return ", ".join(f"{n} {words[status][n != 1]}" for status, n in numbers.items() if n)


def _claims(run: _Run, number: int) -> list[Block]:
    if not run.results.claims:
        return [ReportNote("The recipe makes no claims.")]
    blocks: list[Block] = []
    for claim, verdict in zip(run.results.claims, decide_all(run.results.claims, run.results), strict=True):
        details = [verdict.definition, *(f"note: {caveat}" for caveat in verdict.caveats)]
        blocks.append(ReportVerdict(verdict.status, claim.that, claim.expect, verdict.reason, details))
    return blocks


def _metrics(results: Results, metrics: Sequence[str]) -> list[Block]:
    blocks: list[Block] = []
    for number, metric in enumerate(metrics):
        blocks += [ReportHeading(metric), curve_picture(results, metric, number)]
        blocks.append(
            ReportFold(f"Tables of {metric}: by generation, and against the baseline", metric_tables(results, metric))
        )
    return _or(blocks, "Nothing is scored yet.")


def _samples(run: _Run, number: int) -> list[Block]:
    return sample_blocks(run.folder, run.results, number)


def _training(run: _Run, number: int) -> list[Block]:
    blocks: list[Block] = []
    if any(record.evaluations for record in run.records):
        unit = run.results.units.get("test_loss", "")
        blocks.append(training_picture(run.results.name, run.records, run.results.arms, unit, number))
        table = text_table("Losses of the fits: means over seeds", curves_table(run.records, len(run.results.arms)))
        blocks.append(ReportFold("Losses of each fit", [table]))
    elif run.no_records:
        blocks.append(ReportNote(run.no_records, "faint"))
    else:
        why = why_none(run.records)
        blocks.append(ReportNote(f"{why[0].upper()}{why[1:]}."))
    lengths = training_lengths(run.results)
    return [*blocks, *([ReportFold("How long the fits are", lengths)] if lengths else [])]


def _costs(run: _Run, number: int) -> list[Block]:
    blocks: list[Block] = []
    if run.records:
        table = text_table(
            "Means over fits, which are one for each seed", costs_table(run.records, len(run.results.arms))
        )
        blocks += [
            ReportNote(f"{costs_total(run.records)}."),
            ReportFold("Costs of each fit, and of its samples", [table]),
        ]
        blocks += _earlier(run)
    else:
        blocks.append(ReportNote(run.no_records or "No fit is scored and in the store yet.", "faint"))
    return [*blocks, *reuse(run.sessions)]


def _earlier(run: _Run) -> list[Block]:
    """How many fits are older than the run."""
    started = run.sessions[0].started if run.sessions else ""
    dated = [record for record in run.records if record.created]
    if not started[:1].isdigit() or not dated:
        return []
    earlier = sum(record.created < started for record in dated)
    of = formatting.plural(len(run.records), "fit")
    if not earlier:
        return [ReportNote(f"All {of} were made for this run; none was taken over from an earlier one.")]
    return [ReportNote(f"{formatting.count(earlier)} of {of} are older than this run: earlier runs made them.")]


def _what(run: _Run, number: int) -> list[Block]:
    return what_was_run(run.folder, run.content, run.results, run.sessions)


def _again(run: _Run, number: int) -> list[Block]:
    return again(run.folder, run.content, run.sessions, run.finished)


def _or(blocks: list[Block], text: str) -> list[Block]:
    return blocks or [ReportNote(text)]
