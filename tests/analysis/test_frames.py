from __future__ import annotations

import csv
import json
import math

import pandas as pd
import pytest

from collapse_sim.analysis.documents import csv_text, differences_document, run_document
from collapse_sim.analysis.fit_costs import costs_document
from collapse_sim.analysis.fit_records import FitRecord, LossRecord
from collapse_sim.analysis.frames import (
    COMPARED,
    claims_frame,
    compared_frame,
    costs_frame,
    definitions_frame,
    history_frame,
    rates_frame,
    scores_frame,
)
from collapse_sim.analysis.results import read_results

from .conftest import WriteRun

SCORES = {
    "replace": {"loss": [[1.0, 2.0], [3.0, math.nan]], "fid": [[4.0, 5.0], [6.0, 7.0]]},
    "distill": {"loss": [[1.5, 2.25], [3.5, 2.75]]},
}
LOSSES = (LossRecord(5, 0.5, 3.0, 3.5), LossRecord(10, 1.0, 2.0, math.nan))
FITTED = FitRecord("ab" * 32, False, 0, ("replace", "distill"), (7,), 10, 2.0, 100, 320, "cpu", "fp32", LOSSES, 0.5, 9)
SOLVED = FitRecord("cd" * 32, False, 1, ("replace",), (7, 8), 0, 0.1, 50, 0, "cpu", "fp64", ())


def test_scores_are_the_rows_of_the_csv_in_every_type(write_run: WriteRun) -> None:
    results = read_results(write_run(SCORES, seeds=[5, 4], theory={"replace": {"loss": [1.0, 2.5]}}))
    frame = scores_frame({"toy": results}, ["loss", "fid"])
    assert list(map(str, frame.dtypes[3:])) == ["int64", "int64", "float64", "float64"]
    rows = list(csv.DictReader(csv_text({"toy": results}, ["loss", "fid"]).splitlines()))
    shown = frame.map(lambda value: "" if isinstance(value, float) and math.isnan(value) else str(value))
    shown.loc[frame.value.isna(), "value"] = "nan"
    assert shown.to_dict("records") == [{name: row[name] for name in frame.columns} for row in rows]
    assert len(scores_frame({"toy": results}, ["loss"], [1])) == 4


def test_a_comparison_has_the_figures_of_the_json_document(write_run: WriteRun) -> None:
    results = read_results(write_run(SCORES, seeds=[5, 4], theory={"replace": {"loss": [1.0, 2.5]}}))
    frame = compared_frame(results, ["loss", "fid"])
    assert tuple(frame.columns) == COMPARED
    assert len(frame) == 6  # distill has no fid
    document = json.loads(json.dumps(run_document(results, ["loss"]) | differences_document(results, ["loss"])))
    (row,) = frame[(frame.arm == "distill") & (frame.generation == 0) & (frame.metric == "loss")].to_dict("records")
    entry, difference = document["arms"]["distill"]["loss"][0], document["differences"]["distill"]["loss"][0]
    assert [row[name] for name in ("n", "mean", "low", "high")] == [
        entry[name] for name in ("n", "mean", "low", "high")
    ]
    names = {"difference": "mean", "difference_low": "low", "difference_high": "high", "p": "p", "p_holm": "p_holm"}
    assert [row[name] for name in names] == [difference[of] for of in names.values()]
    assert row["difference"] == pytest.approx(0.375)
    base = frame[(frame.arm == "replace") & (frame.metric == "loss")]
    assert base.difference.isna().all()
    assert list(base.theory) == [1.0, 2.5]
    assert base["mean"].isna().tolist() == [False, True]  # a score is not finite
    assert set(frame.baseline) == {"replace"}


def test_claims_have_their_verdicts(write_run: WriteRun) -> None:
    claims = [
        {"that": "it grows", "metric": "fid", "generation": 1, "expect": "replace > replace@0"},
        {"that": "last", "metric": "fid", "generation": "last", "expect": "replace > 100"},
    ]
    results = read_results(write_run({"replace": {"fid": [[4.0, 5.0], [6.0, 7.0]]}}, seeds=[5, 4], claims=claims))
    frame = claims_frame(results)
    assert frame.status.tolist() == ["undecided", "fails"]
    assert frame.generation.tolist() == [1, "last"]
    assert frame.left.tolist() == [6.5, 6.5]


def test_definitions_and_rates_have_a_row_each(write_run: WriteRun) -> None:
    values = [[1.0 + k + 0.1 * seed for seed in range(4)] for k in range(5)]
    scores = {"replace": {"loss": values}, "keep": {"loss": values[:1] * 5}}
    metrics = {"loss": {"better": "lower", "measures": ["risk"]}}
    results = read_results(write_run(scores, seeds=[0, 1, 2, 3], metrics=metrics))
    frame = definitions_frame(results).set_index(["arm", "definition"])
    assert frame.loc[("replace", "rising loss"), "status"] == "seen"
    assert frame.loc[("keep", "rising loss"), "status"] == "not seen"
    assert frame.loc[("keep", "lost modes"), "status"] == "not measured"
    slopes = rates_frame(results).set_index("arm")
    assert slopes.slope["replace"] > slopes.slope["keep"] == 0
    assert rates_frame(results, []).empty


def test_a_fit_that_arms_share_is_listed_once() -> None:
    history = history_frame([FITTED, SOLVED])
    assert history.train_loss.tolist() == [3.0, 2.0]
    assert history.arms.tolist() == [("replace", "distill")] * 2
    assert history.seed.tolist() == [7, 7]
    costs = costs_frame([FITTED, SOLVED])
    document = costs_document("run", [FITTED, SOLVED], [])["fits"]
    assert costs.fit_s.tolist() == [entry["fit_s"] for entry in document]
    assert costs.seeds.tolist() == [(7,), (7, 8)]
    assert pd.isna(costs.rows_per_s[1])
    assert history_frame([SOLVED]).empty
    assert costs_frame([]).empty
