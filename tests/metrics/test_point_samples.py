"""Metrics of sampled points, against other libraries, plain loops and closed forms; stacked and for one seed."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.toys.curves import TwoMoons
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.data.toys.mixtures import EightGaussians, GaussianMixture
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.metrics.base import Metric
from collapse_sim.metrics.point_samples import (
    MMD,
    HighQuality,
    ModeCoverage,
    SampleNLL,
    SampleVarianceRatio,
    SampleW2,
    SlicedW2,
)

POINTS = Info("points", {"x": ((2,), "float64")}, 100, 100, 100)
COMPARISONS = [SampleW2(), SlicedW2(), MMD(), SampleVarianceRatio(against="held_out")]
EVERY = [*COMPARISONS, SampleVarianceRatio(), SampleNLL(), ModeCoverage(), HighQuality()]
EIGHT = EightGaussians(scale=0.1)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def scored(evaluation):
    """Score rows of one seed, (n, d), or of several, (S, n, d)."""

    def run(metric, samples, others=None, *, data=None, seeds=None):
        which = getattr(metric, "against", "held_out")
        given = {"samples rows": {"x": samples}, f"{which} rows": {"x": others}}
        stacked = samples.ndim == 3
        seeds = seeds or (tuple(range(len(samples))) if stacked else (0,))
        seen = evaluation(given, data=data, stacked=stacked, seeds=seeds)
        value = metric.score(seen)
        assert seen.asked == set(metric.needs)
        return value

    return run


def test_sample_w2_is_the_least_matching(scored):
    samples, real = normal(60, 2, seed=1), normal(60, 2, seed=2) * 2 + 1
    costs = ((samples[:, None] - real[None]) ** 2).sum(-1).numpy()
    least = costs[scipy.optimize.linear_sum_assignment(costs)].mean()
    assert scored(SampleW2(), samples, real) == pytest.approx(least**0.5, rel=1e-9)
    assert scored(SampleW2(), real, real) == pytest.approx(0, abs=1e-12)


def test_sample_w2_of_unequal_numbers_splits_rows(scored):
    """Every row repeated is the same distribution: two copies against three copies of equal sets are matched as one."""
    samples, real = normal(15, 3, seed=1), normal(10, 3, seed=2)
    costs = ((samples.repeat(2, 1)[:, None] - real.repeat(3, 1)[None]) ** 2).sum(-1).numpy()
    least = costs[scipy.optimize.linear_sum_assignment(costs)].mean()
    assert scored(SampleW2(), samples, real) == pytest.approx(least**0.5, rel=1e-9)


def test_sample_w2_in_one_dimension(scored):
    samples, real = normal(501, 1, seed=1), normal(501, 1, seed=2) * 3 - 1
    sorted_apart = (samples.sort(0).values - real.sort(0).values).square().mean()
    assert scored(SampleW2(), samples, real) == pytest.approx(float(sorted_apart) ** 0.5, rel=1e-9)


def test_sliced_w2_is_the_mean_over_directions(scored):
    """Of many random directions; in the plane the mean over all angles is an integral, here a sum over 720."""
    samples, real = normal(200, 2, seed=1) * torch.tensor([2.0, 0.5]), normal(200, 2, seed=2) + 1
    angles = np.arange(720) * math.pi / 720
    directions = np.stack([np.cos(angles), np.sin(angles)])
    apart = np.sort(samples.numpy() @ directions, 0) - np.sort(real.numpy() @ directions, 0)
    squares = (apart**2).mean(0)
    found = scored(SlicedW2(projections=2000), samples, real)
    assert found**2 == pytest.approx(squares.mean(), abs=4 * squares.std() / 2000**0.5)
    shift = torch.tensor([3.0, 0, 0, 0], dtype=torch.float64)
    rows = normal(50, 4, seed=3)
    assert scored(SlicedW2(projections=4000), rows + shift, rows) == pytest.approx(3 / 2, rel=0.03)


def test_sliced_w2_in_one_dimension_is_w2(scored):
    samples, real = normal(70, 1, seed=1), normal(90, 1, seed=2)
    assert scored(SlicedW2(), samples, real) == pytest.approx(scored(SampleW2(), samples, real), rel=1e-9)


@pytest.mark.parametrize("bandwidth", ["median", 0.7])
def test_mmd_is_the_double_loop(scored, bandwidth):
    samples, real = normal(13, 2, seed=1), normal(17, 2, seed=2) + 0.5
    pairs = list(itertools.combinations(real.tolist(), 2))
    width = sorted(math.dist(x, y) for x, y in pairs)[(len(pairs) - 1) // 2] if bandwidth == "median" else bandwidth

    def kernel(x, y):
        return math.exp(-(math.dist(x, y) ** 2) / (2 * width**2))

    def of_pairs(rows):
        return sum(kernel(x, y) for x, y in itertools.permutations(rows.tolist(), 2)) / (len(rows) * (len(rows) - 1))

    between = sum(kernel(x, y) for x in samples.tolist() for y in real.tolist()) / (13 * 17)
    expected = of_pairs(samples) + of_pairs(real) - 2 * between
    assert scored(MMD(bandwidth=bandwidth), samples, real) == pytest.approx(expected, rel=1e-10)


def test_mmd_is_unbiased(scored):
    """For N(m, I) against N(0, I) in d dimensions: 2 (h^2 / (h^2 + 2))^(d/2) (1 - exp(-m^2 / (2 (h^2 + 2))))."""
    h, m = 1.5, torch.tensor([1.0, 0.0], dtype=torch.float64)
    expected = 2 * (h**2 / (h**2 + 2)) * (1 - math.exp(-1 / (2 * (h**2 + 2))))
    apart = scored(MMD(bandwidth=h), normal(2000, 12, 2, seed=1) + m, normal(2000, 12, 2, seed=2))
    same = scored(MMD(bandwidth=h), normal(2000, 12, 2, seed=3), normal(2000, 12, 2, seed=4))
    assert float(apart.mean()) == pytest.approx(expected, abs=4 * float(apart.std()) / 2000**0.5)
    assert float(same.mean()) == pytest.approx(0, abs=4 * float(same.std()) / 2000**0.5)
    assert float(same.min()) < 0


def test_sample_variance_ratio(scored):
    data = GaussianPoints(dimensions=3, scale=2.0)
    samples, real = normal(50, 3, seed=1), normal(80, 3, seed=2) * 3
    trace = np.trace(np.cov(samples.numpy().T))
    assert scored(SampleVarianceRatio(), samples, data=data) == pytest.approx(trace / 12)
    for against in ("held_out", "real"):
        found = scored(SampleVarianceRatio(against=against), samples, real)
        assert found == pytest.approx(trace / np.trace(np.cov(real.numpy().T)))
    many = scored(SampleVarianceRatio(), 2 * normal(4000, 5, 3, seed=3), data=data)  # five rows a seed: no bias
    assert float(many.mean()) == pytest.approx(1, abs=4 * float(many.std()) / 4000**0.5)


def test_sample_nll_of_the_truth_is_its_entropy(scored):
    data = GaussianPoints(dimensions=2, scale=0.5)
    entropy = scipy.stats.multivariate_normal(np.zeros(2), 0.25 * np.eye(2)).entropy()
    samples = 0.5 * normal(20_000, 2, seed=1)
    assert scored(SampleNLL(), samples, data=data) == pytest.approx(
        entropy, abs=4 / 20_000**0.5
    )  # std of 1/2 chi^2_2: 1
    # With the variance times v, 1/2 |x|^2 has mean v instead of 1.
    assert scored(SampleNLL(), 0.5**0.5 * samples, data=data) == pytest.approx(entropy - 0.5, abs=2 / 20_000**0.5)


def test_modes_are_counted(scored):
    modes = EIGHT.true_modes()
    at = {k: modes[k].expand(100, 2) for k in range(8)}
    apart = torch.full((100, 2), 9.0, dtype=torch.float64)
    three = torch.cat([at[0], at[1], at[5], apart])
    assert scored(ModeCoverage(), three, data=EIGHT) == 3 / 8
    assert scored(HighQuality(), three, data=EIGHT) == 3 / 4
    # A tenth of the expected share, 1/8 x .989, is 12.4 of 1,000 samples: 13 are enough, 12 are not.
    for few, covered in ((13, 2 / 8), (12, 1 / 8)):
        samples = torch.cat([modes[:1].expand(1000 - few, 2), modes[1:2].expand(few, 2)])
        assert scored(ModeCoverage(), samples, data=EIGHT) == covered
    edge = modes[:1] + torch.tensor([[0.299, 0.0]], dtype=torch.float64)
    assert scored(HighQuality(), edge, data=EIGHT) == 1
    assert scored(HighQuality(within=2.9), edge, data=EIGHT) == 0


def test_modes_have_scales_and_weights(scored):
    data = GaussianMixture(means=[-10, 10], scales=[0.1, 2.0], weights=[99, 1])
    wide = torch.tensor([[-10.5], [15.0]], dtype=torch.float64)
    assert scored(HighQuality(), wide, data=data) == 0.5  # 5 deviations from the narrow mode, 2.5 from the wide one
    rare = torch.full((1000, 1), -10.0, dtype=torch.float64)
    rare[0] = 10
    assert scored(ModeCoverage(), rare, data=data) == 1  # one of a thousand is a tenth of 1 %


@pytest.mark.parametrize("data", [EIGHT, GaussianMixture(means=[[0, 0, 0, 9], [0, 0, 0, -9]])])
def test_the_truth_covers_its_modes(scored, data):
    samples = data.simulate(20_000, Draws((0,), "real", 0, dtype=torch.float64))["x"]
    mass = scipy.stats.chi2.cdf(9, samples.shape[1])
    assert scored(ModeCoverage(), samples, data=data) == 1
    assert scored(HighQuality(), samples, data=data) == pytest.approx(mass, abs=4 * 0.3 / 20_000**0.5)


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: type(metric).__name__)
def test_seeds_are_scored_as_if_alone(scored, metric):
    assert isinstance(metric, Metric)
    samples, real = normal(3, 40, 2, seed=1) * 2, normal(3, 50, 2, seed=2)
    together = scored(metric, samples, real, data=EIGHT, seeds=(7, 3, 5))
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    for s, seed in enumerate((7, 3, 5)):
        alone = scored(metric, samples[s], real[s], data=EIGHT, seeds=(seed,))
        assert isinstance(alone, float)
        assert float(together[s]) == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("metric", [SampleW2(rows=20), SlicedW2(rows=20, projections=5), MMD(rows=20)])
def test_the_same_rows_are_picked_for_every_arm(scored, metric):
    """A row counts when moving it changes the score: 20 of 60 do, the same ones whatever the samples are."""

    def that_count(samples, real, side):
        before = scored(metric, samples, real)
        found = set()
        for i in range(60):
            rows = [samples.clone(), real.clone()]
            rows[side][i] += 0.5
            if scored(metric, *rows) != before:
                found.add(i)
        return found

    arms, real = [normal(60, 2, seed=seed) * seed for seed in (1, 2)], normal(60, 2, seed=3)
    picks = [that_count(arms[0], real, side) for side in (0, 1)]
    assert [len(pick) for pick in picks] == [20, 20]
    assert picks[0] != picks[1]
    assert that_count(arms[1], real, 0) == picks[0]
    assert scored(metric.model_copy(update={"rows": 60}), arms[0], real) != scored(metric, arms[0], real)


def test_seeds_have_picks_of_their_own(scored):
    rows = normal(1, 300, 2, seed=1).expand(2, 300, 2)
    found = scored(SampleW2(rows=50), rows, rows)
    assert float(found[0]) != float(found[1])
    assert min(found) > 0  # samples and real rows are picked apart, too


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: type(metric).__name__)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_no_score(scored, metric, bad):
    """POT alone would give 0, a perfect match, with a warning."""
    samples, real = normal(2, 40, 2, seed=1), normal(2, 40, 2, seed=2)
    samples[1, 3, 0] = bad
    first, second = scored(metric, samples, real, data=EIGHT).tolist()
    assert math.isfinite(first)
    assert math.isnan(second)


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: type(metric).__name__)
def test_checks(metric):
    info = EIGHT.inspect(Path())
    metric.check(info, Gaussian(), 1000)
    with pytest.raises(ValueError, match=r"too few samples"):
        metric.check(info, Gaussian(), 0)
    grid = dataclasses.replace(info, columns={"x": ((2, 3), "float64")})
    with pytest.raises(ValueError, match=r"points with an x of shape \(d,\), but this data has \(2, 3\)"):
        metric.check(grid, Gaussian(), 1000)


def test_checks_of_rows():
    with pytest.raises(ValueError, match="too few samples: 1, and MMD needs at least 2"):
        MMD().check(POINTS, Gaussian(), 1)
    with pytest.raises(ValueError, match="too few held_out rows: 1, and MMD needs at least 2"):
        MMD().check(dataclasses.replace(POINTS, held_out=1), Gaussian(), 10)
    with pytest.raises(ValueError, match="too few real rows: 1"):
        SampleVarianceRatio(against="real").check(dataclasses.replace(POINTS, rows=1), Gaussian(), 10)
    with pytest.raises(ValueError, match=r"too few rows to compare \(`rows`\): 1"):
        MMD(rows=1).check(POINTS, Gaussian(), 10)


def test_numbers_of_rows_stand_beside_the_figures():
    info = dataclasses.replace(POINTS, held_out=2500)
    assert SampleW2().metric_note(info, 1000, None).note == "1,000 samples against 1,000 of 2,500 held-out rows"
    assert (
        MMD(against="real", rows=50).metric_note(info, 60, None).note == "50 of 60 samples against 50 of 100 real rows"
    )
    assert (
        SampleVarianceRatio(against="held_out").metric_note(info, 60, None).note
        == "60 samples against 2,500 held-out rows"
    )
    assert (
        SampleVarianceRatio().metric_note(info, 60, None).note
        == SampleNLL().metric_note(info, 60, None).note
        == "60 samples"
    )


def test_checks_of_what_data_tells():
    for metric, message in (
        (SampleNLL(), "needs data with a known density"),
        (ModeCoverage(), "ModeCoverage needs data with known modes, such as eight_gaussians"),
        (HighQuality(), "HighQuality needs data with known modes"),
        (SampleVarianceRatio(), "compare with rows"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.check(POINTS, Gaussian(), 1000)
    SampleNLL().check(TwoMoons().inspect(Path()), Gaussian(), 10)
    SampleNLL().check(GaussianPoints().inspect(Path()), Gaussian(), 10)
    with pytest.raises(ValueError, match="needs data with known modes"):
        ModeCoverage().check(TwoMoons().inspect(Path()), Gaussian(), 10)
    with pytest.raises(ValueError, match="7 cannot cover 8 modes"):
        ModeCoverage().check(EIGHT.inspect(Path()), Gaussian(), 7)
