"""The tables of a report are those of `compare`, cell by cell."""

from __future__ import annotations

from rich.text import Text

from collapse_sim.analysis.documents import differences_document, run_document
from collapse_sim.analysis.numbers import with_interval
from collapse_sim.analysis.report.report_document import ReportNote, ReportTable
from collapse_sim.analysis.report.report_tables import comparison, from_rich, metric_tables, text_table
from collapse_sim.analysis.results import read_results

SCORES = {
    "replace": {"loss": [[1.0, 1.1, 1.3], [2.0, 2.2, 2.1]], "cover": [[0.9, 0.91, 0.92], [0.01, 0.3, 0.02]]},
    "accumulate": {"loss": [[1.0, 1.1, 1.3], [1.1, 1.15, 1.4]], "cover": [[0.9, 0.91, 0.92], [0.8, 0.7, 0.9]]},
}


def tables(blocks):
    return [block for block in blocks if isinstance(block, ReportTable)]


def texts(table):
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def expected(entry, *, signed=False):
    return with_interval(entry["mean"], entry["low"], entry["high"], signed=signed)


def test_the_comparison_has_the_means_of_the_json_document(write_run):
    results = read_results(write_run(SCORES, better={"cover": "higher"}))
    document = run_document(results, ["loss", "cover"])
    (table,) = tables(comparison(results))
    assert table.caption.startswith("toy at generation 1: mean over 3 seeds")
    for arm, cells in texts(table).items():
        for metric, cell in zip(["loss", "cover"], cells, strict=True):
            assert cell.removesuffix("*").strip() == expected(document["arms"][arm][metric][1])
    best = {cell.text for row in table.rows for cell in row if cell.tone == "best"}
    assert best == {text for text in best if text.endswith("*")} != set()


def test_differences_are_those_of_the_json_document(write_run):
    results = read_results(write_run(SCORES, better={"cover": "higher"}))
    document = differences_document(results, ["loss"])
    by_generation, against = tables(metric_tables(results, "loss"))
    assert list(by_generation.headers) == ["arm \\ generation", "0", "1"]
    assert list(against.headers) == ["arm", "mean", "minus\nreplace", "relative", "p", "reads"]
    cells = texts(against)["accumulate"]
    assert cells[1] == expected(document["differences"]["accumulate"]["loss"][1], signed=True)
    assert texts(against)["replace"][-1] == "baseline"


def test_rows_of_theory_stay_below_their_arm(write_run):
    theory = {"replace": {"loss": [1.0, 2.0]}}
    by_generation, *_ = tables(metric_tables(read_results(write_run(SCORES, theory=theory)), "loss"))
    assert [row[0].text for row in by_generation.rows] == ["replace", "theory", "accumulate"]
    assert not by_generation.sortable


def test_many_generations_are_thinned_and_a_line_says_so(write_run):
    blocks = metric_tables(read_results(write_run({"a": {"m": [[1.0, 2.0, 3.0]] * 30}})), "m")
    assert list(tables(blocks)[0].headers)[1:] == ["0", "1", "2", "5", "10", "20", "29"]
    assert any("7 of 30 generations" in block.text for block in blocks if isinstance(block, ReportNote))


def test_lines_keep_their_urgency():
    blocks = from_rich([Text("a note", "dim"), "", Text("a warning", "#D55E00"), "plain"])
    assert [(block.text, block.urgency) for block in blocks] == [
        ("a note", "faint"),
        ("a warning", "warning"),
        ("plain", "plain"),
    ]


def test_a_table_of_texts():
    table = text_table("c", [["a", "b"], ["1", "x"]])
    assert (table.headers, [[cell.text for cell in row] for row in table.rows]) == (["a", "b"], [["1", "x"]])
