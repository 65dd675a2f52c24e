"""Intervals against scipy.stats."""

import math

import numpy as np
import pytest
from scipy import stats

from collapse_sim.analysis.intervals import differences, interval, largest, paired, share


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_mean_and_interval_equal_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 0.7, n)
    found = interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.n, found.mean) == (n, pytest.approx(values.mean()))
    assert found.se == pytest.approx(stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.half == pytest.approx((expected.high - expected.low) / 2)


def test_paired_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 5, 8)
    a, b = common + rng.normal(0.3, 0.1, 8), common + rng.normal(0, 0.1, 8)
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    unpaired = stats.ttest_ind(a, b).confidence_interval(0.95)
    assert found.high - found.low < (unpaired.high - unpaired.low) / 10


def test_pairs_only_seeds_that_both_have() -> None:
    assert differences({0: 1.0, 1: 2.0, 5: 7.0}, {5: 4.0, 0: 0.5, 9: 1.0}) == [0.5, 3.0]
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_one_seed_has_no_interval() -> None:
    assert interval([2.5]) == (1, 2.5, None, None, None)
    assert interval([2.5]).half is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert interval([0.1] * 3) == (3, 0.1, 0.0, 0.1, 0.1)


@pytest.mark.parametrize(
    ("values", "mean"), [([1, math.inf], math.inf), ([1, math.nan], math.nan), ([-math.inf, math.inf], math.nan)]
)
def test_values_that_are_not_finite_have_no_interval(values: list[float], mean: float) -> None:
    found = interval(values)
    assert (found.n, found.se, found.low, found.high) == (2, None, None, None)
    assert found.mean == mean or math.isnan(found.mean) == math.isnan(mean)


def test_no_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_coverage_is_95_percent() -> None:
    rng = np.random.default_rng(1)
    found = [interval(rng.normal(1.0, 2.0, 4)) for _ in range(4000)]
    inside = sum(each.low <= 1.0 <= each.high for each in found)
    assert inside / 4000 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 4000))


def test_bounds_cut_an_interval_and_not_its_mean() -> None:
    found = interval([0.0, 0.004])
    cut = found.within((0.0, 1.0))
    assert (cut.n, cut.mean, cut.se, cut.low, cut.high) == (2, 0.002, found.se, 0.0, found.high)
    assert cut.half == pytest.approx(found.half)
    assert interval([0.2, 0.8]).within((0.0, 1.0))[3:] == (0.0, 1.0)
    assert found.within((None, None)) == found
    out = interval([1.1, 1.3]).within((0.0, 1.0))  # a plug-in whose bounds are wrong
    assert (out.low, out.high) == (0.0, pytest.approx(1.2))
    assert interval([0.5]).within((0.0, 1.0)) == interval([0.5])


@pytest.mark.parametrize(
    ("base", "other", "expected"),
    [
        ([10.0, 11.0], [5.0, 5.5], -0.5),
        ([-10.0, -11.0], [-5.0, -5.5], 0.5),
        ([0.001, -0.0005], [0.3, 0.31], None),  # its interval contains 0
        ([0.001, 0.002], [0.3, 0.31], None),  # likewise: two seeds
        ([0.001, 0.00101], [0.3, 0.3], 0.298995 / 0.001005),  # 0.001005 +- 0.000064 is small, and surely not 0
        ([10.0, 11.0], [-5.0, -5.5], None),  # on the other side of 0
        ([0.0, 0.0], [1.0, 1.1], None),
        ([2.0], [3.0], 0.5),
        ([0.001], [3.0], None),  # one seed, and next to nothing beside the other
        ([math.nan, 1.0], [1.0, 1.0], None),
    ],
)
def test_shares_of_what_may_be_zero_are_none(base: list[float], other: list[float], expected: float | None) -> None:
    one, two = dict(enumerate(base)), dict(enumerate(other))
    scale = largest([interval(base), interval(other)])
    found = share(paired(two, one), interval(base), scale)
    assert found == (None if expected is None else pytest.approx(expected))
