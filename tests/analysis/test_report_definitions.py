"""Verdicts by definition of collapse in a report are those of the analysis."""

from __future__ import annotations

import pytest

from collapse_sim.analysis.collapse_definitions import DEFINITIONS, definition_verdicts
from collapse_sim.analysis.definition_tables import definition_tables
from collapse_sim.analysis.report.report_definitions import definition_blocks
from collapse_sim.analysis.report.report_document import ReportFold, ReportNote, ReportTable
from collapse_sim.analysis.report.report_tables import from_rich
from collapse_sim.analysis.results import read_results
from tests.analysis.test_report_tables import tables as tables_of

RISING = {
    "replace": {"loss": [[1.0 + 0.5 * k + 0.001 * s * (k + 1) for s in range(5)] for k in range(6)]},
    "accumulate": {"loss": [[1.0 + 0.001 * (s - 2) * k for s in range(5)] for k in range(6)]},
}


@pytest.fixture
def results(write_run):
    metrics = {"loss": {"better": "lower", "measures": ["risk"]}}
    return read_results(write_run(RISING, seeds=range(5), metrics=metrics))


def test_every_arm_has_its_verdict_by_every_definition(results):
    table, *notes = definition_blocks(results)
    assert isinstance(table, ReportTable)
    measured = ["rising loss", "unbounded loss"]
    assert list(table.headers) == ["arm", *measured]
    by_cell = {(v.arm, v.definition): v.status for v in definition_verdicts(results)}
    for arm, *cells in table.rows:
        for definition, cell in zip(measured, cells, strict=True):
            assert cell.text.removeprefix("● ").removeprefix("○ ").removeprefix("? ") == by_cell[arm.text, definition]
    assert [row[1].text for row in table.rows] == ["● seen", "○ not seen"]
    assert [note.text for note in notes if isinstance(note, ReportNote)] == [
        "Not measured: shrinking variance, lost tail, lost modes, drift (no metric of the run measures it).",
        "Not measured: slower scaling (takes the same arm at three sizes of the real data or more).",
    ]
    assert {*measured} == {name for arm, name in by_cell if by_cell[arm, name] != "not measured"} < {*DEFINITIONS}


def test_figures_rules_and_rates_are_folded(results):
    folds = [block for block in definition_blocks(results) if isinstance(block, ReportFold)]
    assert [fold.summary for fold in folds] == [
        "The figures behind these verdicts",
        "The rules",
        "Rates per generation",
    ]
    rates = folds[2].blocks[0]
    assert isinstance(rates, ReportTable)
    assert rates.caption.startswith("loss % per generation: least-squares slope over generations 0 to 5")
    assert list(rates.headers) == ["arm", "slope", "p", "shape", "levels off\nnear"]
    assert rates.rows[0][1].text.startswith("+")


def test_figures_are_those_of_compare(results):
    """And a rate says that it is one, as it stands beside changes."""
    fold = next(block for block in definition_blocks(results) if isinstance(block, ReportFold))
    (figures,) = fold.blocks
    shown = {(row[0].text, row[1].text): [cell.text for cell in row[4:9]] for row in figures.rows}
    _, *tables = tables_of(from_rich(definition_tables(results, definition_verdicts(results), None)))
    printed = {}
    for table in tables:
        for arm, *cells in table.rows:
            of = {name: " ".join(cell.text.split()) for name, cell in zip(table.headers[1:], cells, strict=True)}
            change = of["change"] if "change" in of else f"{of['per generation']} per generation"
            printed[arm.text, table.caption] = [
                of["generation 0"],
                of["last"],
                change,
                of.get("relative", "-"),
                of["p"],
            ]
    assert shown == printed
    assert [definition for _, definition in shown] == ["rising loss", "unbounded loss"] * 2


def test_a_run_that_does_not_say_what_its_metrics_measure(write_run):
    first = definition_blocks(read_results(write_run(RISING, seeds=range(5))))[0]
    assert isinstance(first, ReportNote)
    assert first.text.startswith("Not measured: ")
    assert "run.json does not say" in first.text


def test_one_generation_has_no_verdicts(write_run):
    (note,) = definition_blocks(read_results(write_run({"a": {"m": [[1.0, 2.0, 3.0]]}})))
    assert isinstance(note, ReportNote)
