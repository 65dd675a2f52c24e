"""Snap and pull: against sorting, closed forms, and their limits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import norm

from collapse_sim.families.gaussian import Gaussian
from collapse_sim.remedies.corrections import Pull, Snap
from tests.families.small_rows import REGRESSION
from tests.remedies.candidate_pools import curation_draws, images, normal, points


def test_pull_in_one_dimension_pairs_by_rank():
    x, real = normal(50, 1, 1) * 2 + 3, normal(50, 1)
    choice = Pull(strength=0.25).choose(points(x, real), 50, curation_draws())
    assert choice.index.tolist() == list(range(50))
    expected = torch.empty_like(x)
    expected[x[:, 0].argsort()] = 0.2 * real.sort(0).values + 0.8 * x.sort(0).values
    torch.testing.assert_close(choice.columns["x"], expected)
    moved = (choice.columns["x"] - x).square().mean().sqrt()
    assert choice.report["moved"] == pytest.approx(float(moved))


def test_pull_of_a_gaussian_moves_its_standard_deviation():
    """Coupled by quantiles, N(m, s^2) becomes N((1 - t) m, ((1 - t) s + t)^2), step by step."""
    quantiles = torch.from_numpy(norm.ppf((np.arange(400) + 0.5) / 400))[:, None]
    unit, x, t = float(quantiles.std(correction=0)), 2 + 0.5 * quantiles, 0.5
    mean, deviation = 2.0, 0.5
    for _ in range(5):
        x = Pull(strength=1.0).choose(points(x, quantiles), 400, curation_draws()).columns["x"]
        mean, deviation = (1 - t) * mean, (1 - t) * deviation + t
        assert float(x.mean()) == pytest.approx(mean, abs=1e-9)
        assert float(x.std(correction=0)) == pytest.approx(deviation * unit)


def test_pull_without_strength_changes_nothing_and_with_much_gives_the_real_rows():
    x, real = normal(30, 2, 1), normal(30, 2)
    pool = points(x, real)
    assert Pull(strength=0.0).keeps_all
    assert Pull(strength=0.0).choose(pool, 30, curation_draws()).columns["x"].equal(x)
    pulled = Pull(strength=1e12).choose(pool, 30, curation_draws()).columns["x"]
    torch.testing.assert_close(pulled[pulled[:, 0].argsort()], real[real[:, 0].argsort()])


def test_pull_in_blocks_and_with_fewer_real_rows():
    x, real = normal(100, 2, 1), normal(30, 2)
    pulled = Pull(strength=1e12, block=25).choose(points(x, real), 100, curation_draws()).columns["x"]
    nearest = torch.cdist(pulled, real)
    assert float(nearest.min(1).values.max()) < 1e-6
    times = nearest.argmin(1).bincount(minlength=30)
    assert {*times.tolist()} <= {3, 4}  # all of them before one is used again


def test_images_stay_images():
    generator = torch.Generator().manual_seed(0)
    real, x = (torch.randint(0, 256, (20, 1, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2))
    for correction in (Pull(), Snap(centres=4)):
        column = correction.choose(images(x, real), 20, curation_draws()).columns["image"]
        assert column.dtype == torch.uint8
        assert column.shape == x.shape
    assert Pull(strength=0.0).choose(images(x, real), 20, curation_draws()).columns["image"].equal(x)


def test_snap_goes_to_the_centres_of_k_means():
    """Two tight groups: their means are the centres, and samples go to the nearer one."""
    real = torch.cat([normal(50, 2) * 0.01 - 5, normal(70, 2, 1) * 0.01 + 5])
    x = normal(40, 2, 2) * 3
    snapped = Snap(centres=2).choose(points(x, real), 40, curation_draws()).columns["x"]
    low, high = real[:50].mean(0), real[50:].mean(0)
    expected = torch.where(((x - low).square().sum(1) < (x - high).square().sum(1))[:, None], low, high)
    torch.testing.assert_close(snapped, expected)


def test_snap_stays_within_a_sample_own_class():
    real = torch.tensor([0, 40, 200, 240], dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 1, 8, 8)
    labels = torch.tensor([0, 0, 1, 1])
    pool = images(torch.full((2, 1, 8, 8), 130, dtype=torch.uint8), real, labels)
    free = Snap(centres=2).choose(pool, 2, curation_draws()).columns["image"]
    assert free[:, 0, 0, 0].tolist() == [200, 200]
    own = dataclasses.replace(pool, columns={**pool.columns, "label": torch.tensor([0, 1])})
    changed = Snap(centres=2).choose(own, 2, curation_draws()).columns
    assert changed["image"][:, 0, 0, 0].tolist() == [40, 200]
    assert changed["label"].tolist() == [0, 1]
    strange = dataclasses.replace(pool, columns={**pool.columns, "label": torch.tensor([0, 7])})
    with pytest.raises(ValueError, match="the label 7, which no real row has"):
        Snap().choose(strange, 2, curation_draws())


def test_more_centres_than_rows_are_the_rows():
    x, real = normal(30, 2, 1), normal(10, 2)
    choice = Snap(centres=16).choose(points(x, real), 30, curation_draws())
    nearest = torch.cdist(x, real)
    torch.testing.assert_close(choice.columns["x"], real[nearest.argmin(1)])
    assert choice.report["moved"] == pytest.approx(float(nearest.min(1).values.square().mean().sqrt()))


@pytest.mark.parametrize("correction", [Snap(), Pull()])
def test_corrections_repeat_and_need_points_or_images(correction):
    x, real = normal(60, 2, 1), normal(60, 2)
    one, same = (correction.choose(points(x, real), 60, curation_draws()) for _ in range(2))
    assert one.columns["x"].equal(same.columns["x"])
    assert correction.candidates(60) == 60
    with pytest.raises(ValueError, match="needs points or images; this data is of the kind regression"):
        correction.check(None, REGRESSION, Gaussian())
