"""What is missing of a run, in few lines."""

from __future__ import annotations

import pytest

from collapse_sim.analysis.report.report_gaps import missing_scores, progress, ranges
from collapse_sim.analysis.results import read_results
from collapse_sim.store import journal
from tests.analysis.conftest import scores_line


def test_nothing_is_missing_of_a_finished_run(write_run):
    results = read_results(write_run({"a": {"m": [[1, 2, 3]] * 3}, "b": {"m": [[1, 2, 3]] * 3}}))
    assert missing_scores(results) == []
    assert progress(results) == "18 of 18 scores"


def test_generations_that_no_arm_has_are_one_line(write_run):
    results = read_results(write_run({"a": {"m": [[1, 2, 3]]}, "b": {"m": [[1, 2, 3]]}}, generations=5))
    assert missing_scores(results) == ["all arms, generations 1 to 5: no scores"]
    assert progress(results) == "6 of 36 scores"


def test_seeds_metrics_and_arms_are_named(write_run):
    scores = {"a": {"m": [[1, 2, 3]] * 2, "n": [[1, 2, 3]]}, "b": {"m": [[1, 2, 3]], "n": [[1, 2, 3]] * 2}}
    folder = write_run(scores, seeds=(0, 1, 7), generations=2)
    journal.append(folder / "journal.jsonl", [scores_line("b", 2, [0], {"m": [1.0], "n": [1.0]})])
    assert missing_scores(read_results(folder)) == [
        "a, generation 1: n is missing",
        "b, generation 1: m is missing",
        "a, generation 2: no scores",
        "b, generation 2: no metric is scored for seeds 1, 7",
    ]


def test_a_chain_that_diverged_is_not_missing(write_run):
    folder = write_run({"a": {"m": [[1, 2, 3]]}, "b": {"m": [[1, 2, 3]] * 2}}, generations=1)
    lines = [{"event": "diverged", "generation": 1, "arm": "a", "seed": s, "message": "x"} for s in (0, 1, 2)]
    journal.append(folder / "journal.jsonl", lines)
    assert missing_scores(read_results(folder)) == []


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([1, 2], "1, 2"), ([9, 4, 5, 6, 1], "1, 4 to 6, 9")]
)
def test_ranges(numbers, text):
    assert ranges(numbers) == text
