"""`collapse-sim verify`, as a user calls it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from collapse_sim.cli.verify_command import verify
from collapse_sim.core.errors import ClaimsFailedError
from tests.analysis.conftest import Call, WriteRun

CLAIMS = """
claims:
  - {that: it is small, metric: test_loss, expect: replace < 100}
  - {that: it is large, metric: test_loss, expect: replace > 100}
"""

SCORES = {
    "replace": {"loss": [[1.0, 2.0, 3.0], [3.1, 4.0, 4.9]]},
    "distill": {"loss": [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]},
}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    app = typer.Typer()
    app.command()(verify)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def claim(that: str, expect: str, generation: Any = "last") -> dict[str, Any]:
    return {"that": that, "metric": "loss", "generation": generation, "expect": expect}


def test_all_three_verdicts(call: Call, write_run: WriteRun) -> None:
    claims = [
        claim("distilling [helps]", "distill < replace"),
        claim("the other way round", "distill > replace"),
        claim("it is above 2", "distill > 2"),
        claim("the best is below", "min(distill, distill@0) < replace"),
    ]
    write_run(SCORES, claims=claims)
    found = call("toy")
    assert isinstance(found.exception, ClaimsFailedError)
    assert (str(found.exception), found.exception.exit_code) == ("1 of 4 claims of toy fail", 6)
    lines = found.stdout.splitlines()
    assert lines[:4] == [
        "✓ holds      distilling [helps]",
        "    distill < replace",
        "    distill - replace = -1.000, interval -1.248 to -0.7516: below 0 (p = 0.0066)",
        "    loss at generation 1; t test of paired differences over 3 seeds; 5 % level over "
        "3 claims against replace (Holm)",
    ]
    assert lines[5] == "✗ fails      the other way round"
    assert lines[10] == "? undecided  it is above 2"
    assert any("over the choice from 2 arms and 3 claims against replace (Holm)" in line for line in lines)
    assert lines[-1] == "toy: holds 2, fails 1, undecided 1"


def test_json(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, claims=[claim("x", "distill < replace", "every"), claim("y", "distill < nobody")])
    found = call("toy", "--json")
    assert (found.exit_code, found.exception) == (0, None)
    document = json.loads(found.stdout)
    assert (document["schema"], document["run"]) == (1, "toy")
    assert (document["holds"], document["fails"], document["undecided"]) == (1, 0, 1)
    holds, undecided = document["claims"]
    assert holds == {
        "that": "x",
        "metric": "loss",
        "generation": "every",
        "expect": "distill < replace",
        "status": "holds",
        "reason": "holds at 1 of the 1 generations 1 to 1; worst at 1: "
        "distill - replace = -1.000, interval -1.248 to -0.7516: below 0 (p = 0.0033)",
        "definition": "loss at every generation; t test of paired differences over 3 seeds; 5 % level",
        "decided_at": 1,
        "n": 3,
        "rows": None,
        "left": pytest.approx(3.0),
        "right": pytest.approx(4.0),
        "difference": pytest.approx(-1.0),
        "low": pytest.approx(-1.2484, abs=1e-4),
        "high": pytest.approx(-0.7516, abs=1e-4),
        "margin": None,
        "p": pytest.approx(0.0033, abs=1e-4),
        "seeds_needed": None,
        "accounts_for": [],
        "protocols": [],
        "seeds": [0, 1, 2],
        "kind": None,
        "caveats": [],
    }
    assert (undecided["status"], undecided["difference"], undecided["n"]) == ("undecided", None, 0)


def test_json_is_printed_before_the_failure(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, claims=[claim("x", "distill > replace")])
    found = call("toy", "--json")
    assert json.loads(found.stdout)["fails"] == 1
    assert isinstance(found.exception, ClaimsFailedError)


def test_a_recipe_without_claims(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES)
    found = call("toy")
    assert (found.exit_code, found.stdout) == (0, "toy: the recipe makes no claims\n")
    assert json.loads(call("toy", "--json").stdout)["claims"] == []


def test_seeds_that_the_recipe_was_tuned_on_are_told_apart(call: Call, write_run: WriteRun) -> None:
    own = {**claim("by its own", "distill < replace"), "seeds": [0, 1]}
    write_run(SCORES, claims=[claim("x", "distill < replace"), own], tuned_on=[0])
    first, second = json.loads(call("toy", "--json").stdout)["claims"]
    assert (first["seeds"], first["kind"], first["caveats"]) == ([1, 2], "confirmatory", [])
    assert (second["seeds"], second["kind"]) == ([0, 1], "exploratory")
    assert "note: exploratory: on seeds that the recipe was tuned on" in call("toy").stdout


def test_a_metrics_resolution_is_read_from_the_run(call: Call, write_run: WriteRun) -> None:
    scores = {"a": {"loss": [[0.501, 0.502, 0.504]]}, "b": {"loss": [[0.500, 0.501, 0.503]]}}
    for name, resolution, status in (("fine", 1e-5, "holds"), ("coarse", 1e-3, "undecided")):
        metrics = {"loss": {"better": "lower", "resolution": resolution}}
        write_run(scores, name=name, metrics=metrics, claims=[claim("x", "a > b")])
        (found,) = json.loads(call(name, "--json").stdout)["claims"]
        assert found["status"] == status


def test_verify_fails_with_6(shell, recipe):
    name = recipe(("metrics: [test_loss]", "metrics: [test_loss]" + CLAIMS), ("[0]", "[0, 1]"))
    shell("run", name, "-q")
    done = shell("verify", "tiny", code=6)
    assert "✓ holds      it is small" in done.out
    assert "✗ fails      it is large" in done.out
    assert "tiny: holds 1, fails 1, undecided 0" in done.out
    assert done.err == "error: 1 of 2 claims of tiny fail\n"
    document = shell("verify", "tiny", "--json", code=6).json
    assert [claim["status"] for claim in document["claims"]] == ["holds", "fails"]
    name = recipe(("metrics: [test_loss]", "metrics: [test_loss]" + CLAIMS[: CLAIMS.rindex("  -")]), ("[0]", "[0, 1]"))
    shell("run", name, "-q")
    shell("verify", "tiny")
