"""Metrics of classes: how many and which, and the shares and recall of each."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from collapse_sim.metrics.base import PartsMetric, RowMetric
from collapse_sim.metrics.classes import ClassCoverage, ClassEntropy, ClassRecall, ClassShares
from collapse_sim.metrics.features import Recall
from tests.metrics.test_features import brute_force, normal


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


CENTRES = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])


@pytest.fixture
def info(digits_info):
    return dataclasses.replace(digits_info, classes=3)


@pytest.fixture
def shares(evaluation, info):
    def run(assigned: list[int], labels: list[int]) -> dict[str, float]:
        probabilities = torch.nn.functional.one_hot(torch.tensor(assigned), 3).float()
        given = {"samples probabilities": probabilities, "real rows": {"label": torch.tensor(labels)}}
        seen = evaluation(given, info=info)
        found = ClassShares().score_parts(seen)
        assert seen.asked == set(ClassShares.needs)
        return found

    return run


@pytest.fixture
def recalls(evaluation, info):
    def run(samples: torch.Tensor, real: torch.Tensor, labels: torch.Tensor, **settings) -> dict[str, float]:
        given = {"samples features": samples, "held_out features": real, "held_out rows": {"label": labels}}
        return ClassRecall(**settings).score_parts(evaluation(given, info=info))

    return run


def clusters(labels: torch.Tensor, seed: int) -> torch.Tensor:
    return CENTRES[labels] + normal(len(labels), 2, seed)


def test_both_keep_parts():
    for metric in (ClassShares(), ClassRecall()):
        assert isinstance(metric, PartsMetric)
        assert not isinstance(metric, RowMetric)


def test_shares_over_real_shares(shares):
    found = shares([0] * 3 + [1] * 7, [0] * 30 + [1] * 10 + [2] * 60)
    assert found == {"0": pytest.approx(0.3 / 0.3), "1": pytest.approx(0.7 / 0.1), "2": 0.0}
    assert ClassShares().sum_up(found) == 0.0
    # The mean, weighted by the real shares, is 1.
    assert 0.3 * found["0"] + 0.1 * found["1"] + 0.6 * found["2"] == pytest.approx(1)


def test_a_class_without_real_rows_has_no_share(shares):
    found = shares([0, 0, 1, 2], [0, 0, 0, 1])
    assert math.isnan(found["2"])
    assert ClassShares().sum_up(found) == pytest.approx(0.5 / 0.75)
    assert math.isnan(ClassShares().sum_up({"0": math.nan}))


def test_threshold_of_death_is_in_no_key():
    assert ClassShares(alive_from=0.2).dead_below == 0.2
    assert ClassShares(alive_from=0.2).describe() == ClassShares().describe()


def test_recall_of_classes_pair_by_pair(recalls):
    labels = torch.tensor([0, 1, 2] * 10)
    samples, real = normal(40, 2, 1), normal(30, 2, 2, 1.5)
    found = recalls(samples, real, labels)
    for c in range(3):
        assert found[str(c)] == pytest.approx(brute_force(samples, real[labels == c], 3)["Recall"])


def test_recall_is_the_weighted_mean_of_the_classes(recalls, evaluation):
    labels = torch.tensor([0] * 25 + [1] * 10 + [2] * 5)
    samples, real = normal(30, 3, 3), normal(40, 3, 4, 1.4)
    found = recalls(samples, real, labels)
    weighted = (25 * found["0"] + 10 * found["1"] + 5 * found["2"]) / 40
    assert weighted == pytest.approx(
        Recall().score(evaluation({"samples features": samples, "held_out features": real}))
    )
    assert 0 < weighted < 1


def test_a_dead_class_has_no_recall(recalls):
    labels = torch.tensor([0, 1, 2] * 30)
    found = recalls(clusters(labels[labels != 1], 1), clusters(labels, 2), labels)
    assert found["1"] == 0 == ClassRecall().sum_up(found)
    assert found["0"] > 0.8
    assert found["2"] > 0.8


def test_labels_go_with_the_rows_that_are_used(recalls):
    """With fewer rows than there are, the labels are those of the rows drawn: a dead class stays at 0."""
    labels = torch.tensor([0, 1, 2] * 40)
    alive = labels[labels != 1]
    for rows in (30, 60):
        found = recalls(clusters(alive, 1), clusters(labels, 2), labels, rows=rows)
        assert found["1"] == 0
        assert min(found["0"], found["2"]) > 0.5


def test_check_of_class_parts(digits_info):
    none = dataclasses.replace(digits_info, classes=0)
    with pytest.raises(ValueError, match="has no labels: use recall"):
        ClassRecall(features="pixels").check(none, None, 100)
    with pytest.raises(ValueError, match="this data has no labels"):
        ClassShares().check(none, None, 100)
    with pytest.raises(ValueError, match="other classes than the data's labels"):
        ClassShares(features="inception").check(digits_info, None, 100)
    with pytest.raises(ValueError, match="too few samples: 3"):
        ClassRecall().check(digits_info, None, 3)
    for metric in (ClassRecall(), ClassShares()):
        metric.check(digits_info, None, 100)
        assert metric.parts(digits_info) == tuple("0123456789")
    assert ClassRecall().metric_note(digits_info, 500, None).note.endswith("the least of 10 classes of about 36 rows")
    assert "against 1,437 real rows; the least of 10 classes" in ClassShares().metric_note(digits_info, 500, None).note
