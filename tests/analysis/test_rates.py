"""Slopes against closed forms, and what is said where there is none."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma

from collapse_sim.analysis.rates import MetricRate, rate_of, rates, rates_document
from tests.analysis.curves import gaussian, regression, results_of


def rate(curve: np.ndarray, **extra: object) -> MetricRate:
    one = rate_of(results_of({"a": {"m": curve}}, **extra), "a", "m")
    assert one is not None
    return one


def test_the_slope_is_that_of_least_squares_with_a_t_interval_over_seeds() -> None:
    curve = np.random.default_rng(0).normal(size=(4, 6))
    expected = [stats.linregress(range(6), row).slope for row in curve]
    own = rate(curve)
    assert not own.relative
    assert own.slope == pytest.approx(np.mean(expected))
    low, high = stats.t.interval(0.95, 3, np.mean(expected), stats.sem(expected))
    assert (own.low, own.high) == (pytest.approx(low), pytest.approx(high))
    assert own.p == pytest.approx(stats.ttest_1samp(expected, 0).pvalue)
    assert (own.first, own.last, own.seeds) == (0, 5, 4)


def test_a_geometric_curve_has_its_exact_rate() -> None:
    own = rate(np.outer([1.0, 2.0, 0.5], 0.9 ** np.arange(5)))
    assert own.relative
    assert own.slope == pytest.approx(-0.1)
    assert (own.low, own.high) == (pytest.approx(-0.1), pytest.approx(-0.1))


def test_a_replaced_gaussian_shrinks_at_the_closed_forms_rate() -> None:
    """log of chi2(n - 1) / n has the mean digamma((n - 1) / 2) + log(2 / n); 95 % of the intervals contain it."""
    rng, rows = np.random.default_rng(1), 50
    expected = np.expm1(digamma((rows - 1) / 2) + np.log(2 / rows))
    own = [rate(gaussian(rng, 8, 10, rows)) for _ in range(300)]
    covered = sum(one.low <= expected <= one.high for one in own if one.low is not None and one.high is not None)
    assert 0.91 * 300 <= covered <= 0.985 * 300
    many = rate(gaussian(rng, 20_000, 10, rows))
    assert many.slope == pytest.approx(expected, rel=0.02)


def test_replaced_regression_grows_by_one_fit_in_each_generation() -> None:
    """Its expected error is linear in the number of fits; with a score of 0 the slope is not relative."""
    curve = regression(np.random.default_rng(2), 20_000, 9, accumulate=False)
    own = rate(np.concatenate([np.zeros((20_000, 1)), curve], 1))
    assert not own.relative
    assert own.slope == pytest.approx(10 / 29, rel=0.02)


def test_a_constant_series_has_slope_0_and_no_shape() -> None:
    own = rate(np.full((3, 8), 0.3))
    assert own.slope == pytest.approx(0.0, abs=1e-12)
    assert (own.p, own.shape, own.limit) == (1.0, "undecided", None)


def test_all_arms_have_the_same_kind_of_rate() -> None:
    positive, negative = np.full((3, 4), 2.0), np.full((3, 4), -1.0)
    both = rates(results_of({"a": {"m": positive}, "b": {"m": negative}}))
    assert [(one.arm, one.relative) for one in both] == [("a", False), ("b", False)]


def test_a_diverged_seed_has_no_slope() -> None:
    curve = np.ones((3, 4))
    curve[1, 2:] = np.nan
    own = rate(curve, diverged={"a": {1: 2}})
    assert (own.slope, own.note) == (None, "a: seed 1 diverged at generation 2")


def test_one_seed_has_a_slope_without_an_interval() -> None:
    own = rate(np.array([[1.0, 2.0, 4.0]]))
    assert own.slope == pytest.approx(1.0)
    assert (own.low, own.high, own.p) == (None, None, None)
    assert own.note == "whether it levels off takes at least 3 seeds (1 here) and 5 generations (3 here)"


def test_one_generation_has_no_rate() -> None:
    assert rates(results_of({"a": {"m": np.ones((3, 1))}})) == []


def test_the_document_has_every_field() -> None:
    entry = rates_document(rates(results_of({"a": {"m": np.outer([1.0, 2.0, 0.5], 0.9 ** np.arange(5))}})))[0]
    assert entry["arm"] == "a"
    assert entry["slope"] == pytest.approx(-0.1)
    assert set(entry) == set(MetricRate.__dataclass_fields__)


def test_slopes_of_logarithms_beyond_what_a_float_holds() -> None:
    """Two seeds of which one explodes: the interval's end is huge, and no overflow."""
    own = rate(np.array([[1e-300, 1e300], [1.0, 1.0]]))
    assert own.high is not None
    assert own.slope is not None
    assert 1e290 < own.slope < own.high
    assert np.isfinite(own.high)
