"""`compare --definitions` and `--rates`, as a user calls them."""

import json

import pytest

from collapse_sim.analysis.collapse_definitions import DEFINITIONS
from collapse_sim.core.errors import RecipeError
from tests.analysis.conftest import Call, WriteRun

LOSS = [[1.0 + 0.1 * k + 0.001 * s * k for s in range(4)] for k in range(7)]
FLAT = [[2.0 + 0.001 * s for s in range(4)] for _ in range(7)]
SCORES = {"replace": {"loss": LOSS, "fid": LOSS}, "accumulate": {"loss": FLAT, "fid": FLAT}}
METRICS = {
    "loss": {"better": "lower", "unit": "nats", "measures": ["risk"]},
    "fid": {"better": "lower", "measures": ["drift"], "bounds": [0.0, None]},
}


@pytest.fixture
def toy(write_run: WriteRun) -> None:
    write_run(SCORES, seeds=range(4), metrics=METRICS)


@pytest.mark.usefixtures("toy")
def test_definitions_are_a_table_with_figures_and_rules(call: Call) -> None:
    text = call("toy", "--definitions").stdout
    head, *lines = text.splitlines()
    assert head == "toy by definition of collapse: generation 6 against generation 0 of the same seed, over 4 seeds"
    rows = [line.split() for line in lines]
    assert ["replace", "seen", "seen", "seen"] in rows
    assert ["accumulate", "not", "seen", "not", "seen", "not", "seen"] in rows
    assert "lost tail: not measured: no metric of the run measures it" in lines
    assert any(line.startswith("seen if a test loss rises") for line in lines)
    assert any(line.startswith("replace") and "+60.9 %" in line for line in lines)


@pytest.mark.usefixtures("toy")
def test_rates_are_a_table_for_each_metric(call: Call) -> None:
    text = call("toy", "--rates").stdout
    assert "loss % per generation: least-squares slope over generations 0 to 6, mean over 4 seeds" in text
    assert "keeps going" in text
    only = call("toy", "--rates", "--metric", "fid").stdout
    assert "fid % per generation" in only
    assert "loss" not in only


@pytest.mark.usefixtures("toy")
def test_json_has_both_with_every_field(call: Call) -> None:
    document = json.loads(call("toy", "--definitions", "--rates", "--json").stdout)
    verdicts = {(entry["arm"], entry["definition"]): entry for entry in document["definitions"]}
    assert set(verdicts) == {(arm, definition) for arm in SCORES for definition in DEFINITIONS}
    rising = verdicts["replace", "rising loss"]
    assert (rising["status"], rising["metric"], rising["relative"]) == ("seen", "loss", pytest.approx(0.6, abs=0.01))
    assert rising["low"] < rising["figure"] < rising["high"]
    assert document["margin"] == 0.05
    assert {(entry["arm"], entry["metric"]) for entry in document["rates"]} == {
        (arm, metric) for arm in SCORES for metric in METRICS
    }
    assert "arms" in document  # beside what --json always has
    assert "definitions" not in json.loads(call("toy", "--json").stdout)


@pytest.mark.usefixtures("toy")
def test_metric_restricts_what_decides(call: Call) -> None:
    document = json.loads(call("toy", "--definitions", "--metric", "fid", "--json").stdout)
    measured = {entry["definition"] for entry in document["definitions"] if entry["status"] != "not measured"}
    assert measured == {"drift"}


@pytest.mark.usefixtures("toy")
def test_papers_tables(call: Call) -> None:
    latex = call("toy", "--definitions", "--rates", "--latex").stdout
    assert latex.count(r"\begin{table}") == 2
    assert r"loss, \% per generation" in latex
    assert r"\pm" in latex
    assert "seen" in latex
    markdown = call("toy", "--definitions", "--markdown").stdout
    assert "| arm | rising loss | unbounded loss | drift |" in markdown
    assert any(line.startswith("| accumulate |") and "not seen" in line for line in markdown.splitlines())


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--definitions", "--csv"), "--csv: has scores only"),
        (("--rates", "--generation", "2"), "--generation: --rates uses all generations"),
        (("--definitions", "--against", "samples"), "--definitions: not with --against"),
    ],
)
def test_options_that_do_not_go_together(call: Call, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        call("toy", *options)


def test_a_run_of_an_earlier_version_says_what_to_do(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=range(4))
    text = call("toy", "--definitions").stdout
    assert "rising loss: not measured: run.json does not say what its metrics measure: `run`" in text


def test_a_run_without_scores_prints_no_verdict(call: Call, write_run: WriteRun) -> None:
    write_run({"a": {}}, seeds=(0,), generations=3, metrics=METRICS)
    text = call("toy", "--definitions", "--rates", "--latex").stdout
    assert text.strip() == ""
    assert "not measured" in call("toy", "--definitions", "--rates").stdout
