"""Numbers of seeds against published tables of power, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from collapse_sim.analysis.power import in_words, seeds_needed


def with_effect(effect: float, n: int = 5) -> np.ndarray:
    """(n,) of this mean and a standard deviation of 1."""
    values = np.arange(n, dtype=np.float64)
    return effect + (values - values.mean()) / values.std(ddof=1)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_numbers_are_those_of_the_tables(effect: float, n: int) -> None:
    """A paired t test, two-sided at 5 %, 80 % power: Cohen 1988, as G*Power gives them."""
    assert seeds_needed([with_effect(effect)]) == n
    assert seeds_needed([-with_effect(effect)]) == n


def test_that_many_seeds_find_it_in_80_percent_of_experiments() -> None:
    rng = np.random.default_rng(0)
    needed = seeds_needed([with_effect(0.7)], alpha=0.0125)
    assert needed is not None
    draws = 0.7 + rng.normal(size=(20_000, int(needed)))
    assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue <= 0.0125) == pytest.approx(0.81, abs=0.015)
    fewer = 0.7 + rng.normal(size=(20_000, int(needed) - 1))
    assert np.mean(stats.ttest_1samp(fewer, 0, axis=1).pvalue <= 0.0125) < 0.805


def test_both_ends_of_a_band_take_more_than_one() -> None:
    one = seeds_needed([with_effect(0.5)])
    both = seeds_needed([with_effect(0.5), with_effect(-0.5)])
    assert one is not None
    assert both is not None
    assert both > one
    assert seeds_needed([with_effect(0.5), with_effect(5.0)]) == one


def test_what_cannot_be_given() -> None:
    assert seeds_needed([np.array([1.0, 2.0])]) is None
    assert seeds_needed([with_effect(0.01)]) == math.inf
    assert seeds_needed([np.array([-1.0, 0.0, 1.0])]) == math.inf
    assert seeds_needed([np.array([1.0, 1.0, 1.0])]) == 3
    assert in_words(12.0) == "12"
    assert in_words(math.inf) == "more than 1,000"
    assert in_words(None) == "at least 3 seeds are needed to say"
