"""`collapse-sim curves` and `status --costs`, as a user calls them."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from collapse_sim.cli.curves_command import curves
from collapse_sim.cli.status_command import status
from collapse_sim.core.errors import RecipeError
from tests.conftest import SMALL

app = typer.Typer()
app.command()(curves)
app.command()(status)


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def run(sandbox):
    sandbox.run(SMALL)
    return sandbox.root / "run"


def test_table_document_and_plot(run, tmp_path):
    done = call("curves", run, "--plot", tmp_path / "c.svg")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["generation", "arm", "seeds", "updates"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "1"]
    assert f"plot: {tmp_path / 'c.svg'}" in done.stderr
    text = (tmp_path / "c.svg").read_text()
    assert "nats per pixel" in text
    assert "generation 1" in text
    document = json.loads(call("curves", run, "--json", "--arm", "replace", "--generation", "1").stdout)
    (fit,) = document["fits"]
    assert (fit["generation"], fit["arms"], fit["seeds"]) == (1, ["replace"], [0])
    assert [e["step"] for e in fit["evaluations"]] == [5, 10, 15, 20]


def test_costs(run):
    lines = call("status", run, "--costs").stdout.splitlines()
    assert lines[0].split()[:5] == ["generation", "arm", "seeds", "updates", "fit"]
    assert lines[-1].startswith("3 fits: ")
    document = json.loads(call("status", run, "--costs", "--json").stdout)
    assert [fit["updates"] for fit in document["fits"]] == [20, 20, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arm", "replac"], "--arm replac: no such arm, did you mean 'replace'"),
        (["--generation", "7"], "--generation 7: this run has generations 0 to 1"),
        (["--seed", "9"], "--seed 9: this run has seeds 0"),
        (["--plot", "c.txt"], "--plot: c.txt: the suffix selects the format"),
    ],
)
def test_bad_options_are_explained(run, arguments, message):
    with pytest.raises(RecipeError, match=message):
        call("curves", run, *arguments)


def test_costs_need_a_run():
    with pytest.raises(RecipeError, match="--costs: name a run"):
        call("status", "--costs")


def test_fits_without_evaluations_say_so(sandbox):
    sandbox.run(
        SMALL.replace("evaluate: every 5 steps, keep: best", "evaluate: never").replace(", validation_rows: 40", "")
    )
    done = call("curves", sandbox.root / "run")
    assert done.stdout == ""
    assert "these fits recorded no losses: the recipe has `train.evaluate: never`" in done.stderr
