"""Class coverage and entropy."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from collapse_sim.metrics.classes import ClassCoverage, ClassEntropy


def one_hot(labels: list[int], classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(labels), classes).float()


@pytest.fixture
def scored(evaluation, digits_info):
    def run(metric, probabilities, labels):
        info = dataclasses.replace(digits_info, classes=probabilities.shape[1])
        given = {"samples probabilities": probabilities, "real rows": {"label": torch.tensor(labels)}}
        seen = evaluation(given, info=info)
        value = metric.score(seen)
        assert seen.asked == set(metric.needs)
        return value

    return run


def test_coverage_counts_classes_with_a_tenth_of_their_real_share(scored):
    real = [0] * 50 + [1] * 40 + [2] * 10  # shares .5, .4, .1: a class counts from .05, .04, .01
    assert scored(ClassCoverage(), one_hot([0] * 91 + [1] * 4 + [2] * 5, 3), real) == 1
    assert scored(ClassCoverage(), one_hot([0] * 92 + [1] * 3 + [2] * 5, 3), real) == pytest.approx(2 / 3)
    assert scored(ClassCoverage(), one_hot([2] * 100, 3), real) == pytest.approx(1 / 3)


def test_coverage_leaves_out_classes_that_real_rows_do_not_show(scored):
    assert scored(ClassCoverage(), one_hot([0, 1, 0, 1], 4), [0, 0, 1, 1]) == 1
    assert scored(ClassCoverage(), one_hot([3, 3, 3, 0], 4), [0, 0, 1, 1]) == 0.5


def test_entropy_in_nats(scored):
    assert scored(ClassEntropy(), one_hot([0, 1, 2, 3] * 5, 4), []) == pytest.approx(math.log(4))
    only = scored(ClassEntropy(), one_hot([1] * 20, 4), [])
    assert only == 0
    assert math.copysign(1, only) == 1
    assert scored(ClassEntropy(), one_hot([0, 0, 0, 1], 2), []) == pytest.approx(
        -0.75 * math.log(0.75) + 0.25 * math.log(4)
    )
    # Of the mean distribution, not the mean of the entropies.
    assert scored(ClassEntropy(), torch.full((6, 4), 0.25), []) == pytest.approx(math.log(4))


@pytest.mark.parametrize("metric", [ClassCoverage, ClassEntropy])
def test_check(metric, digits_info):
    metric().check(digits_info, None, 100)
    with pytest.raises(ValueError, match="this data has no labels"):
        metric().check(dataclasses.replace(digits_info, classes=0), None, 100)
    with pytest.raises(ValueError, match="must classify, but Pixels does not: use classifier"):
        metric(features="pixels").check(digits_info, None, 100)
    with pytest.raises(ValueError, match="too few samples for 10 classes: 9"):
        metric().check(digits_info, None, 9)
