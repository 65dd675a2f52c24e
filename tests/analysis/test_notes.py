"""What a figure is from, and why not to quote it, stands beside it wherever it is shown."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from collapse_sim.analysis.merged_runs import merge
from collapse_sim.analysis.plots import figure, plot
from collapse_sim.analysis.results import read_results
from collapse_sim.cli.compare_command import compare
from collapse_sim.cli.verify_command import verify
from tests.analysis.conftest import WriteRun

SCORES = {"replace": {"fid": [[1.0, 2.0], [3.0, 4.0]]}, "distill": {"fid": [[1.0, 2.0], [2.0, 2.5]]}}
NOTE = "5,000 samples against 10,000 held-out rows; inception 6726825d"
WARNING = "biased: fewer than 10,000 samples"


def noted(note: str = NOTE, warning: str = WARNING) -> dict[str, object]:
    return {"fid": {"better": "lower", "note": note, "warning": warning}}


@pytest.fixture
def run(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # as wide as needed
    claim = {"that": "distilling helps", "metric": "fid", "generation": "last", "expect": "distill < replace"}
    return write_run(SCORES, seeds=[0, 1], metrics=noted(), claims=[claim])


def call(command: object, *arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


def test_tables(run: Path) -> None:
    """Below the table of generations and below that of differences."""
    lines = call(compare, "toy", "--metric", "fid").splitlines()
    assert lines.count(f"{NOTE}; {WARNING}") == 2
    assert f"{NOTE}; {WARNING}" in call(compare, "toy", "--generation", "1").splitlines()


def test_documents(run: Path) -> None:
    found = json.loads(call(compare, "toy", "--json"))
    said = {"better": "lower", "unit": None, "bounds": [None, None], "note": NOTE, "warning": WARNING}
    assert found["metrics"] == {"fid": said}
    rows = list(csv.DictReader(call(compare, "toy", "--csv").splitlines()))
    assert {row["note"] for row in rows} == {f"{NOTE}; {WARNING}"}


def test_plots(run: Path, tmp_path: Path) -> None:
    results = read_results(run)
    (axes,) = [axes for axes in figure(results, ["fid"]).axes if axes.get_title()]
    assert axes.get_title() == f"fid (lower is better)\n{WARNING}"
    for suffix in (".png", ".svg", ".pdf"):
        plot(results, ["fid"], tmp_path / f"plot{suffix}")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.text["Description"] == f"fid: {NOTE}"
    assert NOTE in (tmp_path / "plot.svg").read_text()


def test_verdicts(run: Path) -> None:
    assert f"note: {WARNING}" in call(verify, "toy")
    (entry,) = json.loads(call(verify, "toy", "--json"))["claims"]
    assert entry["caveats"] == [WARNING]


def test_without_a_warning(write_run: WriteRun) -> None:
    results = read_results(write_run(SCORES, seeds=[0, 1], metrics=noted(warning="")))
    assert (dict(results.notes), dict(results.warnings)) == ({"fid": NOTE}, {})


def test_runs_before_there_were_notes(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # as wide as needed
    run = write_run(SCORES, seeds=[0, 1])
    assert dict(read_results(run).notes) == {}
    assert "fid" in call(compare, "toy")


def test_runs_side_by_side(write_run: WriteRun) -> None:
    """Said once where they agree, by run where they differ."""
    alike = {name: read_results(write_run(SCORES, name=name, seeds=[0, 1], metrics=noted())) for name in "ab"}
    assert merge(alike).notes == {"fid": NOTE}
    other = read_results(write_run(SCORES, name="c", seeds=[0, 1], metrics=noted("50 samples", "")))
    merged = merge({"a": alike["a"], "c": other})
    assert merged.notes == {"fid": f"a: {NOTE}; c: 50 samples"}
    assert merged.warnings == {"fid": f"a: {WARNING}"}
