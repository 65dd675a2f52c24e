from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from collapse_sim.analysis.documents import differences_document
from collapse_sim.analysis.paired_tests import paired_tests
from collapse_sim.analysis.results import read_results

from .conftest import WriteRun

SCORES = {
    "base": {"loss": [[1.0, 2.0, 4.0, 3.5]]},
    "near": {"loss": [[1.1, 2.3, 3.8, 3.6]]},
    "far": {"loss": [[2.1, 3.3, 4.9, 4.6]]},
    "farther": {"loss": [[3.0, 4.2, 5.9, 5.6]]},
}


def test_they_are_those_of_a_paired_t_test_and_of_holms_steps(write_run: WriteRun) -> None:
    results = read_results(write_run(SCORES, seeds=[0, 1, 2, 3]))
    others = ("near", "far", "farther")
    differences = {arm: results.paired_difference(arm, "base", "loss", 0) for arm in others}
    tests = paired_tests(results, "loss", 0, differences)
    base = np.array(SCORES["base"]["loss"][0])
    p = {arm: float(ttest_rel(SCORES[arm]["loss"][0], base).pvalue) for arm in others}
    assert {arm: tests[arm].p for arm in others} == pytest.approx(p)
    least, middle, greatest = sorted(others, key=p.__getitem__)
    steps = [3 * p[least], max(3 * p[least], 2 * p[middle])]
    steps.append(max(steps[1], p[greatest]))
    assert [tests[arm].holm for arm in (least, middle, greatest)] == pytest.approx(steps)
    entries = differences_document(results, ["loss"])["differences"]
    assert {arm: (entries[arm]["loss"][0]["p"], entries[arm]["loss"][0]["p_holm"]) for arm in others} == tests


def test_without_an_interval_there_is_none(write_run: WriteRun) -> None:
    scores = {"base": {"loss": [[1.0, 2.0]]}, "lost": {"loss": [[float("nan"), 2.0]]}, "kept": {"loss": [[3.0, 5.0]]}}
    results = read_results(write_run(scores, seeds=[0, 1]))
    differences = {arm: results.paired_difference(arm, "base", "loss", 0) for arm in ("lost", "kept")}
    (arm, test) = next(iter(paired_tests(results, "loss", 0, differences).items()))
    assert arm == "kept"
    assert test.p == test.holm == pytest.approx(float(ttest_rel([3.0, 5.0], [1.0, 2.0]).pvalue))
    one_seed = results.for_seeds([1])
    assert paired_tests(one_seed, "loss", 0, {"kept": one_seed.paired_difference("kept", "base", "loss", 0)}) == {}
