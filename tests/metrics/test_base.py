"""What metrics say of their figures."""

from __future__ import annotations

import dataclasses

import pytest

from collapse_sim.metrics.base import FeatureSpace, MetricNote, biased
from collapse_sim.metrics.classes import ClassEntropy, InceptionScore
from collapse_sim.metrics.feature_maps import ClassifierFeatures, Pixels
from collapse_sim.metrics.features import FID, KID, Precision, Vendi
from collapse_sim.metrics.loss import TestLoss

INCEPTION = FeatureSpace("inception 6726825d", 2048)


@pytest.fixture
def many(digits_info):
    return dataclasses.replace(digits_info, rows=60_000, pool=60_000, held_out=10_000)


def test_counts_and_network(digits_info, many):
    assert FID().metric_note(many, 10_000, INCEPTION) == MetricNote(
        "10,000 samples against 10,000 held-out rows; inception 6726825d", ""
    )
    assert FID(against="real").metric_note(many, 10_000, FeatureSpace("pixels")).note == (
        "10,000 samples against 60,000 real rows; pixels"
    )
    assert Vendi().metric_note(many, 500, INCEPTION).note == "500 samples; inception 6726825d"
    assert ClassEntropy().metric_note(many, 500, FeatureSpace("classifier 1234abcd")).note == (
        "500 samples; classifier 1234abcd"
    )
    assert TestLoss().metric_note(digits_info, 500, None) == MetricNote("360 held-out rows")


def test_how_many_of_them_are_used(many):
    capped = Precision(against="real").metric_note(many, 4_000, INCEPTION)
    assert capped.note == "4,000 samples against 10,000 of 60,000 real rows; inception 6726825d"
    assert (
        KID(rows=100).metric_note(many, 4_000, None).note == "100 of 4,000 samples against 100 of 10,000 held-out rows"
    )


@pytest.mark.parametrize(
    ("samples", "held_out", "warning"),
    [
        (10_000, 10_000, ""),
        (9_999, 10_000, "biased: fewer than 10,000 samples"),
        (10_000, 9_999, "biased: fewer than 10,000 held-out rows"),
        (50, 50, "biased: fewer than 10,000 samples and held-out rows"),
    ],
)
def test_bias_of_fid(many, samples, held_out, warning):
    info = dataclasses.replace(many, held_out=held_out)
    assert FID().metric_note(info, samples, INCEPTION).warning == warning
    assert biased({"samples": samples, "held_out": held_out}) == warning
    assert InceptionScore().metric_note(info, samples, INCEPTION).warning == biased({"samples": samples})
    assert KID().metric_note(info, samples, INCEPTION).warning == ""


def test_a_covariance_without_full_rank(many):
    assert (
        FID()
        .metric_note(many, 2_048, INCEPTION)
        .note.endswith("; too few rows for the covariance of its 2,048 features")
    )
    assert FID().metric_note(many, 2_049, INCEPTION).note.endswith("6726825d")


def test_dimensions_of_maps(digits_info):
    assert Pixels().dimensions(digits_info) == 64
    assert ClassifierFeatures().dimensions(digits_info) == 64
