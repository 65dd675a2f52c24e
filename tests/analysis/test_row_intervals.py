"""Intervals over held-out rows: against SciPy's t intervals and bootstraps, the jackknife, and what they cover."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import typer
from typer.testing import CliRunner

from collapse_sim.analysis.documents import csv_text, differences_document, run_document
from collapse_sim.analysis.results import RecordedClaim, Results, read_results
from collapse_sim.analysis.row_intervals import CAVEAT, missing_reason, of_difference, of_mean, over_rows
from collapse_sim.analysis.row_values import RowValues
from collapse_sim.analysis.table import against_baseline, by_generation
from collapse_sim.analysis.terminal import rendered
from collapse_sim.analysis.verdicts import decide
from collapse_sim.cli.compare_command import compare
from collapse_sim.metrics.base import ratio_influences
from collapse_sim.store.blocks import block_name, object_folder

from .lines import RECIPE

Values = np.ndarray[Any, Any]
STORE = Path("store")


def influence(values: Values, weights: Values | None = None, slope: float = 1.0) -> Values:
    given = None if weights is None else torch.from_numpy(weights)
    found: Values = ratio_influences(torch.from_numpy(values), given, slope).numpy()
    return found


def source(arm: str, rows: Mapping[tuple[str, int, int], Values], data: str = "data") -> RowValues:
    """As if the store had them."""
    digests = {key: f"{arm}{i}" for i, key in enumerate(rows)}
    read = {
        object_folder(STORE, digests[key]) / block_name((key[2],)): influence(values).astype(np.float32)
        for key, values in rows.items()
    }
    return RowValues(digests, (STORE,), data, read)


def results(losses: Mapping[str, Sequence[Values]], **more: Any) -> Results:
    """A run whose loss at generation 1 has these values of rows, by arm and seed."""
    return Results(
        "toy",
        tuple(losses),
        tuple(range(max(map(len, losses.values())))),
        {"loss": "lower"},
        1,
        next(iter(losses)),
        {arm: {"loss": {1: {s: float(v.mean()) for s, v in enumerate(seeds)}}} for arm, seeds in losses.items()},
        rows={arm: source(arm, {("loss", 1, s): v for s, v in enumerate(seeds)}) for arm, seeds in losses.items()},
        **more,
    )


@pytest.fixture
def dice() -> np.random.Generator:
    return np.random.default_rng(0)


def test_of_a_mean_it_is_the_t_interval(dice: np.random.Generator) -> None:
    values = dice.gamma(2.0, 0.5, 37)
    found = over_rows(float(values.mean()), influence(values))
    assert found is not None
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.n, found.mean) == (37, pytest.approx(values.mean()))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_of_a_ratio_it_is_the_jackknifes_and_the_bootstraps(dice: np.random.Generator) -> None:
    """Perplexity: exp(nats / tokens), with rows of very different lengths."""
    tokens = dice.geometric(1 / 30, 400).astype(float)
    nats = tokens * dice.gamma(8, 3 / 8, 400)

    def perplexity(nats: Values, tokens: Values, axis: int = -1) -> Values:
        found: Values = np.exp(nats.sum(axis) / tokens.sum(axis))
        return found

    score = float(perplexity(nats, tokens))
    found = over_rows(score, influence(nats, tokens, score))
    assert found is not None
    assert found.se is not None
    without = perplexity(nats.sum() - nats[:, None], tokens.sum() - tokens[:, None])  # one row each
    assert found.se == pytest.approx(math.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum()), rel=0.02)
    drawn = scipy.stats.bootstrap(
        (nats, tokens), perplexity, paired=True, n_resamples=2000, method="percentile", random_state=1
    ).confidence_interval
    assert found.low is not None
    assert found.high is not None
    width = found.high - found.low
    assert found.low == pytest.approx(drawn.low, abs=0.06 * width)
    assert found.high == pytest.approx(drawn.high, abs=0.06 * width)


DRAWN = {
    "normal": lambda dice, shape: (dice.normal(1, 1, shape), 1.0),
    "exponential": lambda dice, shape: (dice.exponential(1, shape), 1.0),
    "a third is 0": lambda dice, shape: (dice.beta(2, 4, shape) * (dice.random(shape) > 1 / 3), 2 / 9),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_it_covers_the_expected_value(kind: str, dice: np.random.Generator) -> None:
    """In 95 % of experiments of 100 rows; 1,000 experiments leave a standard error of 0.7 %."""
    experiments, true = DRAWN[kind](dice, (1000, 100))
    found = [over_rows(float(values.mean()), influence(values)) for values in experiments]
    covered = np.mean([one is not None and one.low is not None and one.low <= true <= one.high for one in found])  # type: ignore[operator]
    assert 0.925 < covered < 0.972


def test_pairs_are_narrower_than_two_arms_apart(dice: np.random.Generator) -> None:
    """Rows that are hard for one arm are hard for the other."""
    hard = dice.gamma(2.0, 1.0, 200)
    run = results({"a": [hard], "b": [hard + dice.normal(0.05, 0.1, 200)]})
    minus, (a, b) = of_difference(run, "b", "a", "loss", 1), (of_mean(run, arm, "loss", 1) for arm in "ab")
    assert minus is not None
    assert minus.se is not None
    assert a is not None
    assert b is not None
    apart = math.hypot(a.se or 0.0, b.se or 0.0)
    assert minus.se < 0.1 * apart
    assert (minus.n, minus.low > 0) == (200, True)  # type: ignore[operator]


def test_seeds_are_averaged_row_by_row(dice: np.random.Generator) -> None:
    hard = dice.gamma(2.0, 1.0, 50)
    seeds = [hard + dice.normal(0, 0.3, 50) for _ in range(3)]
    run = results({"a": seeds})
    found, expected = of_mean(run, "a", "loss", 1), scipy.stats.ttest_1samp(np.mean(seeds, 0), 0)
    assert found is not None
    assert found.low == pytest.approx(expected.confidence_interval().low, rel=1e-5)
    of_one = of_mean(run, "a", "loss", 1, [2])
    assert of_one is not None
    assert of_one.high == pytest.approx(scipy.stats.ttest_1samp(seeds[2], 0).confidence_interval().high, rel=1e-5)


def test_none_is_better_than_a_wrong_one(dice: np.random.Generator) -> None:
    values = [dice.normal(size=20) for _ in range(2)]
    run = results({"a": values, "b": values})
    assert of_difference(run, "b", "a", "loss", 1) is not None
    other_rows = replace(run, rows={**run.rows, "b": replace(run.rows["b"], data="other")})
    assert of_difference(other_rows, "b", "a", "loss", 1) is None
    one_seed_only = replace(run, rows={**run.rows, "a": source("a", {("loss", 1, 0): values[0]})})
    assert of_mean(one_seed_only, "a", "loss", 1) is None
    assert of_mean(one_seed_only, "a", "loss", 1, [0]) is not None
    fewer = replace(run, rows={**run.rows, "b": source("b", {("loss", 1, s): values[s][:9] for s in (0, 1)})})
    assert of_difference(fewer, "b", "a", "loss", 1) is None
    resampled = replace(run, rows={arm: replace(found, resampled=True) for arm, found in run.rows.items()})
    assert of_mean(resampled, "a", "loss", 1) is None  # two seeds' held-out rows overlap
    assert of_mean(resampled, "a", "loss", 1, [0]) is not None
    assert of_mean(replace(run, rows={}), "a", "loss", 1) is None
    assert over_rows(1.0, np.array([0.0])) is None
    assert over_rows(math.inf, np.array([math.nan, math.inf])) is None


def test_within_bounds(dice: np.random.Generator) -> None:
    run = results({"a": [np.array([0.0, 0.0, 0.0, 9.0])]}, bounds={"loss": (0.0, None)})
    found = of_mean(run, "a", "loss", 1)
    assert found is not None
    assert found.low == 0


def claim(expect: str) -> RecordedClaim:
    return RecordedClaim("", "loss", 1, expect)


def test_a_claim_of_one_seed_is_decided_by_its_rows(dice: np.random.Generator) -> None:
    hard = dice.gamma(2.0, 1.0, 500)
    run = results({"a": [hard], "b": [hard + 0.05 + dice.normal(0, 0.1, 500)], "c": [hard + dice.normal(0, 0.1, 500)]})
    expected = {
        "a < b": "holds",
        "b < a": "fails",
        "a < c": "undecided",
        "1.1 * a > b": "holds",
        "a > 0.5": "holds",
        "a = b within 5 %": "undecided",
    }
    verdicts = {expect: decide(claim(expect), run) for expect in expected}
    assert {expect: verdict.status for expect, verdict in verdicts.items()} == expected
    first = verdicts["a < b"]
    assert (first.n, first.rows) == (1, 500)
    assert first.caveats == (CAVEAT,)
    assert "interval over 500 held-out rows of one seed -0.0" in first.reason
    assert first.definition.endswith("paired rows over 500 held-out rows of one seed, 95 % Student-t interval")
    assert verdicts["a = b within 5 %"].rows == 0
    assert "one seed gives no interval" in verdicts["a = b within 5 %"].reason
    equal = decide(claim("a < b"), results({"a": [hard], "b": [hard]}))
    assert (equal.status, "equal for every row" in equal.reason) == ("fails", True)


def test_more_seeds_decide_by_themselves(dice: np.random.Generator) -> None:
    """However sure the rows are: seeds that differ are what a claim is about."""
    hard = dice.gamma(2.0, 1.0, 500)
    run = results({"a": [hard, hard], "b": [hard + 0.1, hard - 0.1]})
    verdict = decide(claim("a < b"), run)
    assert (verdict.status, verdict.n, verdict.rows) == ("undecided", 2, 0)
    begun = replace(run, values={arm: {"loss": {1: {0: run.scores(arm, "loss", 1)[0]}}} for arm in "ab"})
    assert decide(claim("a < b"), begun).status == "undecided"  # the second seed is to come


def shown(parts: Sequence[Any]) -> str:
    return rendered(list(parts), 200)


def test_tables_have_both_kinds(dice: np.random.Generator) -> None:
    hard = dice.gamma(2.0, 1.0, 500)
    seeds = [hard + dice.normal(0, 0.1, 500) for _ in range(3)]
    run = results({"a": seeds, "b": [values + 0.2 for values in seeds]})
    table = shown(against_baseline(run, "loss", 1, 200))
    assert table.count("± over") == 3  # two columns and the note
    assert "these models on other held-out rows (500 here), not of other seeds" in table
    assert "over rows" not in shown(by_generation(run, "loss", [1], 200))
    plain = shown(against_baseline(replace(run, rows={}), "loss", 1, 200))
    assert "over" not in plain


def test_of_one_seed_it_stands_in_the_place_of_the_other(dice: np.random.Generator) -> None:
    hard = dice.gamma(2.0, 1.0, 500)
    run = results({"a": [hard], "b": [hard + 0.2 + dice.normal(0, 0.1, 500)]})
    table = shown(by_generation(run, "loss", [1], 200))
    assert "± over rows" in table
    half = (of_mean(run, "a", "loss", 1) or pytest.fail("no interval")).half
    assert f"{hard.mean():.2f} ± {half:.2f}" in table
    assert "worse (rows)" in shown(against_baseline(run, "loss", 1, 200))
    assert "±" not in shown(by_generation(replace(run, rows={}), "loss", [1], 200))


def test_for_programs(dice: np.random.Generator) -> None:
    hard = dice.gamma(2.0, 1.0, 500)
    run = results({"a": [hard, hard], "b": [hard + dice.normal(0.1, 0.1, 500), hard]})
    mean = of_mean(run, "b", "loss", 1)
    minus = of_difference(run, "b", "a", "loss", 1)
    assert mean is not None
    assert minus is not None
    (entry,) = run_document(run, ["loss"])["arms"]["b"]["loss"]
    assert entry["rows"] == {"n": 500, "low": mean.low, "high": mean.high}
    (entry,) = differences_document(run, ["loss"])["differences"]["b"]["loss"]
    assert entry["rows"] == {"n": 500, "low": minus.low, "high": minus.high}
    lines = csv_text({"toy": run}, ["loss"]).splitlines()
    assert lines[0].endswith(",rows,rows_low,rows_high")
    assert [line.split(",")[-3] for line in lines[1:]] == ["500"] * 4
    assert run_document(replace(run, rows={}), ["loss"])["arms"]["b"]["loss"][0]["rows"] is None


def test_a_run_of_one_seed(sandbox: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the recipe to the verdict; then without the store, with a damaged one, and at another place."""
    sandbox.run(RECIPE)
    folder = sandbox.root / "run"
    run = read_results(folder)
    found = of_mean(run, "replace", "test_loss", 1)
    assert found is not None
    assert found.n == 150
    assert found.mean == pytest.approx(run.scores("replace", "test_loss", 1)[4])
    verdict = decide(run.claims[0], run)
    assert (verdict.status, verdict.n, verdict.rows) == ("fails", 1, 150)
    monkeypatch.chdir(sandbox.root)
    app = typer.Typer()
    app.command()(compare)
    table = CliRunner().invoke(app, [str(folder)], catch_exceptions=False)
    assert "± over rows" in table.stdout
    assert "95 % intervals of these models on other held-out rows (150 here)" in table.stdout

    store = sandbox.root / ".store"
    moved = sandbox.root / "elsewhere"
    shutil.copytree(folder, moved / "run")
    shutil.copytree(store, moved / ".store")
    for path in moved.glob(".store/objects/*/*/*/rows.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    store.rename(sandbox.root / "gone")
    assert of_mean(read_results(moved / "run"), "replace", "test_loss", 1) is None  # damaged
    without = CliRunner().invoke(app, [str(folder), "--json"], catch_exceptions=False)
    assert json.loads(without.stdout)["arms"]["replace"]["test_loss"][1]["rows"] is None
    assert "no intervals over held-out rows: their values are in the run's store, which is not at" in without.stderr
    assert missing_reason(read_results(moved / "run")) == ""
    shutil.copytree(sandbox.root / "gone", moved / ".store", dirs_exist_ok=True)
    assert of_mean(read_results(moved / "run"), "replace", "test_loss", 1) == found
    assert decide(run.claims[0], read_results(folder)).status == "undecided"
