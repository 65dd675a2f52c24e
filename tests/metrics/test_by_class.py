"""Metrics of every class: recognised samples, FID and coverage of each label."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from collapse_sim.families.vae import VAE
from collapse_sim.metrics.base import FeatureSpace, PartsMetric
from collapse_sim.metrics.by_class import ConditionalAccuracy, CoverageByClass, FIDByClass
from collapse_sim.metrics.features import Coverage
from tests.metrics.test_classes import CENTRES, clusters, one_hot
from tests.metrics.test_features import normal

ALL = (ConditionalAccuracy, CoverageByClass, FIDByClass)
CONDITIONAL = VAE(conditional=True)


@pytest.fixture
def info(digits_info):
    return dataclasses.replace(digits_info, classes=3)


@pytest.fixture
def accuracy(evaluation, info):
    def run(assigned, labels):
        given = {"samples probabilities": one_hot(assigned, 3), "samples rows": {"label": torch.tensor(labels)}}
        seen = evaluation(given, info=info)
        parts = ConditionalAccuracy().score_parts(seen)
        assert seen.asked == set(ConditionalAccuracy.needs)
        return parts

    return run


def sides(samples, sample_labels, real, real_labels):
    return {
        "samples features": samples,
        "samples rows": {"label": sample_labels},
        "held_out features": real,
        "held_out rows": {"label": real_labels},
    }


def frechet(a, b):
    """Of Gaussians fitted to both, in numpy."""
    a, b = a.double().numpy(), b.double().numpy()
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def test_they_keep_parts():
    for metric in ALL:
        assert isinstance(metric(), PartsMetric)


def test_accuracy_counts_by_the_class_that_was_asked_for(accuracy):
    parts = accuracy(assigned=[0, 0, 1, 2, 1, 0], labels=[0, 0, 0, 1, 1, 2])
    assert parts == {"0": pytest.approx(2 / 3), "1": 0.5, "2": 0.0}
    assert ConditionalAccuracy().sum_up(parts) == pytest.approx((2 / 3 + 0.5) / 3)


def test_every_class_counts_equally(accuracy):
    """A rare class that is dead weighs as much as a frequent one; one that was not asked for has no value."""
    parts = accuracy(assigned=[0] * 99 + [0], labels=[0] * 99 + [1])
    assert math.isnan(parts["2"])
    assert ConditionalAccuracy().sum_up(parts) == 0.5
    assert math.isnan(ConditionalAccuracy().sum_up({"0": math.nan}))


def test_thresholds_of_death_are_in_no_key():
    assert ConditionalAccuracy().dead_below == 0.5
    assert CoverageByClass().dead_below == 0.1
    for metric in (ConditionalAccuracy, CoverageByClass):
        assert metric(alive_from=0.2).dead_below == 0.2
        assert metric(alive_from=0.2).describe() == metric().describe()


def test_fid_of_classes_against_numpy(evaluation, info):
    labels, asked = torch.arange(90) % 3, torch.arange(120) % 3
    real, samples = clusters(labels, 1), clusters(asked, 2) + torch.tensor([0.0, 0.3])
    parts = FIDByClass().score_parts(evaluation(sides(samples, asked, real, labels), info=info))
    for c in range(3):
        assert parts[str(c)] == pytest.approx(frechet(samples[asked == c], real[labels == c]), rel=1e-4)
    assert FIDByClass().sum_up(parts) == pytest.approx(sum(parts.values()) / 3)


def test_fid_of_a_class_that_others_are_generated_for_is_large(evaluation, info):
    """All samples together are as they should be, so that `fid` sees nothing."""
    labels = torch.arange(300) % 3
    swapped = torch.tensor([1, 0, 2])[labels]
    parts = FIDByClass().score_parts(
        evaluation(sides(clusters(labels, 1), swapped, clusters(labels, 2), labels), info=info)
    )
    assert parts["2"] < 0.2
    assert min(parts["0"], parts["1"]) > 0.9 * float((CENTRES[0] - CENTRES[1]).square().sum())


def test_a_class_with_one_row_has_no_fid(evaluation, info):
    labels = torch.tensor([0] * 10 + [1] * 10 + [2])
    parts = FIDByClass().score_parts(
        evaluation(sides(clusters(labels, 1), labels, clusters(labels, 2), labels), info=info)
    )
    assert math.isnan(parts["2"])
    assert not math.isnan(FIDByClass().sum_up(parts))


def test_fid_uses_labels_of_the_rows_that_are_used(evaluation, info):
    """With fewer rows than there are, every class's features stay around its centre."""
    labels = torch.arange(300) % 3
    given = sides(clusters(labels, 1), labels, clusters(labels, 2), labels)
    parts = FIDByClass(rows=60).score_parts(evaluation(given, info=info))
    assert max(parts.values()) < 5
    assert parts != FIDByClass().score_parts(evaluation(given, info=info))


def test_coverage_is_the_weighted_mean_of_the_classes(evaluation, info):
    labels = torch.tensor([0] * 25 + [1] * 10 + [2] * 5)
    samples, real = normal(30, 3, 3), normal(40, 3, 4, 1.4)
    seen = evaluation(sides(samples, labels[:30], real, labels), info=info)
    parts = CoverageByClass().score_parts(seen)
    weighted = (25 * parts["0"] + 10 * parts["1"] + 5 * parts["2"]) / 40
    assert weighted == pytest.approx(Coverage().score(seen))
    assert 0 < weighted < 1


@pytest.mark.parametrize("rows", [10_000, 60])
def test_a_dead_class_is_not_covered(evaluation, info, rows):
    labels = torch.arange(120) % 3
    alive = labels[labels != 1]
    given = sides(clusters(alive, 1), alive, clusters(labels, 2), labels)
    parts = CoverageByClass(rows=rows).score_parts(evaluation(given, info=info))
    assert parts["1"] == 0 == CoverageByClass().sum_up(parts)
    assert min(parts["0"], parts["2"]) > 0.5


def test_check(digits_info):
    none = dataclasses.replace(digits_info, classes=0)
    for metric in ALL:
        metric().check(digits_info, CONDITIONAL, 100)
        assert metric().parts(digits_info) == tuple("0123456789")
        with pytest.raises(ValueError, match="has no labels"):
            metric().check(none, CONDITIONAL, 100)
    for metric in (ConditionalAccuracy, FIDByClass):
        with pytest.raises(ValueError, match="needs samples that were generated for a label, and this model generates"):
            metric().check(digits_info, VAE(), 100)
    CoverageByClass().check(digits_info, VAE(), 100)  # the labels of real rows are enough
    with pytest.raises(ValueError, match="other classes than the data's labels"):
        ConditionalAccuracy(features="inception").check(digits_info, CONDITIONAL, 100)


def test_notes(digits_info):
    space = FeatureSpace("classifier abc", 64)
    assert ConditionalAccuracy().metric_note(digits_info, 500, space).note == (
        "500 samples; classifier abc; the mean of 10 classes"
    )
    fid = FIDByClass().metric_note(digits_info, 500, space)
    assert fid.note.endswith("the mean of 10 classes; too few rows of a class for the covariance of its 64 features")
    assert fid.warning.startswith("biased: fewer than 10,000")
    assert "too few" not in FIDByClass(against="real").metric_note(digits_info, 1437, space).note
    assert CoverageByClass().metric_note(digits_info, 500, None).note.endswith("10 classes of about 36 rows")
