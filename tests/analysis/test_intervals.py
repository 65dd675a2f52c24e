"""Intervals against scipy.stats."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from collapse_sim.analysis.intervals import differences, interval, paired, share


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


def test_ends_within_bounds_by_the_delta_method() -> None:
    """Against the formulas written out: m exp(+-t se / m), and the logistic of logit(m) +- t se / (m (1 - m))."""
    values = [0.02, 0.05, 0.03]
    plain = interval(values)
    assert plain.half is not None
    mean, reach = plain.mean, plain.half
    positive = interval(values, (0.0, None))
    assert (positive.mean, positive.se) == (plain.mean, plain.se)
    assert (positive.low, positive.high) == (
        pytest.approx(mean * math.exp(-reach / mean)),
        pytest.approx(mean * math.exp(reach / mean)),
    )
    share_of = interval(values, (0.0, 1.0))
    ends = [special.expit(special.logit(mean) + sign * reach / (mean * (1 - mean))) for sign in (-1, 1)]
    assert (share_of.low, share_of.high) == (pytest.approx(ends[0]), pytest.approx(ends[1]))


def test_scales_are_moved_and_mirrored_with_their_bounds() -> None:
    values = [0.02, 0.05, 0.03]
    base, percent = interval(values, (0.0, 1.0)), interval([100 * v for v in values], (0.0, 100.0))
    assert percent[1:] == pytest.approx([100 * value for value in base[1:]])
    moved = interval([v + 1 for v in values], (1.0, None))
    own = interval(values, (0.0, None))
    assert (moved.low, moved.high) == (pytest.approx(own.low + 1), pytest.approx(own.high + 1))
    below = interval([-v for v in values], (None, 0.0))
    assert (below.low, below.high) == (pytest.approx(-own.high), pytest.approx(-own.low))


def test_values_at_a_bound_take_part_as_they_are() -> None:
    found = interval([0.0, 0.0, 0.004], (0.0, 1.0))
    assert found.mean == pytest.approx(0.004 / 3)
    assert 0 < found.low < found.mean < found.high < 1
    assert interval([1.0, 1.0, 1.0], (0.0, 1.0))[1:] == (1.0, 0.0, 1.0, 1.0)  # nothing scatters
    out = interval([1.1, 1.3], (0.0, 1.0))  # a plug-in whose bounds are wrong: a plain interval
    assert (out.low, out.high) == interval([1.1, 1.3])[3:]
    assert interval([0.5], (0.0, 1.0)) == interval([0.5])


@pytest.mark.parametrize(("bounds", "draw"), [((0.0, None), "gamma"), ((0.0, 1.0), "beta")])
def test_intervals_within_bounds_cover_as_often_as_they_say(bounds: Any, draw: str) -> None:
    """Skewed values near a bound: 95 %, where cut t intervals cover less on the side away from the bound."""
    rng = np.random.default_rng(2)
    rows = rng.gamma(4.0, 0.25, (1000, 5)) if draw == "gamma" else rng.beta(2.0, 18.0, (1000, 5))
    truth = 1.0 if draw == "gamma" else 0.1
    found = [interval(row, bounds) for row in rows]
    inside = sum(each.low <= truth <= each.high for each in found) / 1000
    assert inside == pytest.approx(0.95, abs=0.02)
    assert inside > sum(interval(row).low <= truth <= interval(row).high for row in rows) / 1000


@pytest.mark.parametrize(
    ("base", "other", "expected"),
    [
        ([10.0, 11.0], [5.0, 5.5], -0.5),
        ([-10.0, -11.0], [-5.0, -5.5], 0.5),
        ([0.001, -0.0005], [0.3, 0.31], None),  # its interval contains 0
        ([0.001, 0.002], [0.3, 0.31], None),  # likewise: two seeds
        ([0.1, 0.101], [0.3, 0.3], 0.1995 / 0.1005),  # 0.1005 +- 0.0064 is small, and surely not 0
        ([0.001, 0.00101], [0.3, 0.3], None),  # surely not 0, but near it: 29,751 %
        ([0.03, 0.0303], [0.3, 0.3], 0.26985 / 0.03015),  # 895 %
        ([10.0, 11.0], [-5.0, -5.5], None),  # on the other side of 0
        ([0.0, 0.0], [1.0, 1.1], None),
        ([2.0], [3.0], None),  # one seed has no interval
        ([math.nan, 1.0], [1.0, 1.0], None),
    ],
)
def test_shares_of_what_may_be_zero_are_none(base: list[float], other: list[float], expected: float | None) -> None:
    one, two = dict(enumerate(base)), dict(enumerate(other))
    found = share(paired(two, one), interval(base))
    assert found == (None if expected is None else pytest.approx(expected))
    positive = share(paired(two, one), interval(base, (0.0, None)))
    assert positive == found  # on a logarithmic scale no interval contains 0


def test_differences_are_cut_at_what_can_be() -> None:
    assert interval([0.2, 0.8]).within((-1.0, 0.9))[3:] == (-1.0, 0.9)
    assert interval([0.2, 0.8]).within((None, None)) == interval([0.2, 0.8])
