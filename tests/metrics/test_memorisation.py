"""How near samples are to training rows, against held-out rows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from collapse_sim.metrics.base import MetricNote
from collapse_sim.metrics.memorisation import (
    Authenticity,
    Memorisation,
    NearestDistance,
    SampleMemorisation,
    share_nearer,
)
from tests.metrics.test_features import normal

ALL = (Memorisation, Authenticity, NearestDistance)


def nearest(rows: Tensor, others: Tensor, k: int = 1) -> np.ndarray:
    found: np.ndarray = NearestNeighbors(n_neighbors=k).fit(others.numpy()).kneighbors(rows.numpy())[0][:, k - 1]
    return found


@pytest.fixture
def score(evaluation):
    def run(metric, samples: Tensor, real: Tensor, held_out: Tensor) -> float:
        given = {"samples features": samples, "real features": real, "held_out features": held_out}
        seen = evaluation(given)
        value = metric.score(seen)
        assert seen.asked <= set(metric.needs)
        assert isinstance(value, float)
        return value

    return run


def test_memorisation_is_sklearns_neighbours(score):
    samples, real, held_out = normal(70, 4, 1), normal(50, 4, 2), normal(50, 4, 3)
    expected = np.mean(nearest(samples, real) < nearest(samples, held_out))
    assert score(Memorisation(), samples, real, held_out) == pytest.approx(expected)


def test_authenticity_is_alaas_definition(score):
    samples, real = normal(70, 4, 1), normal(50, 4, 2)
    index = NearestNeighbors(n_neighbors=1).fit(real.numpy()).kneighbors(samples.numpy())[1][:, 0]
    own = nearest(real, real, 2)  # the first is the row itself
    assert score(Authenticity(), samples, real, real) == pytest.approx(np.mean(nearest(samples, real) > own[index]))


def test_nearest_distance_is_a_ratio_of_medians(score):
    samples, real, held_out = normal(70, 4, 1, 2.0), normal(50, 4, 2), normal(31, 4, 3)
    expected = np.median(nearest(samples, real)) / np.median(nearest(held_out, real))
    assert score(NearestDistance(), samples, real, held_out) == pytest.approx(expected, rel=1e-6)


def test_copies_are_the_extreme(score):
    real, held_out = normal(60, 5, 1), normal(60, 5, 2)
    assert score(Memorisation(), real[:40], real, held_out) == 1
    assert score(Memorisation(), held_out, real, held_out) == 0
    assert score(Authenticity(), real[:40], real, held_out) == 0
    assert score(NearestDistance(), real[:40], real, held_out) == 0
    near = real + 1e-3 * normal(60, 5, 3)
    assert score(Memorisation(), near, real, held_out) == 1
    assert score(Authenticity(), near, real, held_out) == 0
    assert score(NearestDistance(), near, real, held_out) < 0.01


@pytest.mark.parametrize("scale", [1.0, 0.05, 4.0])
def test_fresh_samples_have_a_half_whatever_they_are_like(score, scale):
    """Good samples, collapsed ones and scattered ones."""
    found = [
        score(Memorisation(), normal(50, 3, 3 * i, scale), normal(40, 3, 3 * i + 1), normal(40, 3, 3 * i + 2))
        for i in range(100)
    ]
    assert abs(np.mean(found) - 0.5) < 3.5 * np.std(found) / 10


@pytest.mark.parametrize("d", [1, 2, 6])
def test_authenticity_of_fresh_rows_is_that_of_the_rows_themselves(score, d):
    """A fresh row is one more among them: a copy is what is its nearest row's nearest in turn."""

    def mutual(rows: Tensor) -> float:
        index = NearestNeighbors(n_neighbors=2).fit(rows.numpy()).kneighbors(rows.numpy())[1][:, 1]
        return float(np.mean(index[index] == np.arange(len(rows))))

    found = [score(Authenticity(), normal(200, d, 2 * i), normal(200, d, 2 * i + 1), None) for i in range(40)]
    own = [1 - mutual(normal(201, d, 1000 + i)) for i in range(40)]
    assert abs(np.mean(found) - np.mean(own)) < 3.5 * math.sqrt((np.var(found) + np.var(own)) / 40)
    if d == 1:  # of many rows in one dimension two thirds are mutual
        assert np.mean(found) == pytest.approx(1 / 3, abs=0.02)


def test_nearest_distance_of_fresh_rows_is_one(score):
    found = score(NearestDistance(), normal(1500, 3, 1), normal(1000, 3, 2), normal(1500, 3, 3))
    assert found == pytest.approx(1, abs=0.05)
    assert score(NearestDistance(), normal(500, 3, 1, 3.0), normal(500, 3, 2), normal(500, 3, 3)) > 1.5


def test_unequal_numbers_are_made_equal(score):
    """Five times as many training rows would be nearest five times as often."""
    found = [
        score(Memorisation(), normal(50, 3, 3 * i), normal(200, 3, 3 * i + 1), normal(40, 3, 3 * i + 2))
        for i in range(50)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    few = [
        score(Memorisation(rows=30), normal(50, 3, 3 * i), normal(40, 3, 3 * i + 1), normal(200, 3, 3 * i + 2))
        for i in range(50)
    ]
    assert np.mean(few) == pytest.approx(0.5, abs=0.05)


def test_ties_count_half():
    row = torch.zeros(1, 2)
    assert share_nearer(torch.tensor([[0.0, 0.0], [5.0, 0.0]]), row, row) == 0.5
    assert share_nearer(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), row, torch.tensor([[2.0, 0.0]])) == 0.5


def test_held_out_rows_that_are_training_rows_have_no_ratio(score):
    real = normal(20, 3, 1)
    assert math.isnan(score(NearestDistance(), real, real, real))


def test_points_of_every_seed(evaluation):
    real, held_out = normal(60, 2, 1).reshape(2, 30, 2), normal(60, 2, 2).reshape(2, 30, 2)
    samples = torch.stack([real[0], held_out[1]])
    given = {"samples rows": {"x": samples}, "real rows": {"x": real}, "held_out rows": {"x": held_out}}
    found = SampleMemorisation().score(evaluation(given, stacked=True, seeds=(0, 1)))
    assert found.tolist() == [1, 0]
    one = {name: {"x": rows["x"][0]} for name, rows in given.items()}
    assert SampleMemorisation().score(evaluation(one)) == 1
    few = evaluation({**one, "held_out rows": {"x": held_out[0, :5]}})
    assert SampleMemorisation().score(few) < 1  # five training rows are left
    broken = {**one, "samples rows": {"x": samples[0].clone().fill_(math.inf)}}
    assert math.isnan(SampleMemorisation().score(evaluation(broken)))


def test_checks_and_facts(digits_info):
    bare = dataclasses.replace(digits_info, held_out=0)
    for metric in (Memorisation(), NearestDistance()):
        with pytest.raises(ValueError, match="too few held_out rows: 0"):
            metric.check(bare, None, 100)
    Authenticity().check(bare, None, 100)  # looks at training rows only
    for metric in ALL:
        metric().check(digits_info, None, 100)
        with pytest.raises(ValueError, match="too few samples: 1"):
            metric().check(digits_info, None, 1)
    said = "500 samples; nearest of 360 of 1,437 real rows against 360 held-out rows"
    assert Memorisation().metric_note(digits_info, 500, None) == MetricNote(said, "")
    assert "fitted to the real rows" in Memorisation(features="classifier").metric_note(digits_info, 500, None).warning
    points = dataclasses.replace(digits_info, kind="points", columns={"x": ((2,), "float64")})
    assert SampleMemorisation().metric_note(points, 500, None).note == said
    with pytest.raises(ValueError, match="too few held_out rows: 0"):
        SampleMemorisation().check(dataclasses.replace(points, held_out=0), None, 100)
