"""Means over seeds and their 95 % Student-t intervals.

A seed is one independent repetition of the whole chain, so the n values of one arm at one generation are independent,
and mean +- t(0.975; n - 1) * s / sqrt(n) covers the expectation in 95 % of experiments when they are near normal.
Where a metric has bounds, the interval is made on a scale that has none (scale.py), and its ends come back within them.
Arms share their randomness seed by seed, so two arms are compared by the interval of their paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from collapse_sim.analysis.scale import UNBOUNDED, Bounds, Scale

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean over n seeds. `se` (standard error), `low` and `high` are None for one seed or non-finite values."""

    n: int
    mean: float
    se: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """The distance of the mean from the farther end."""
        return None if self.low is None or self.high is None else max(self.high - self.mean, self.mean - self.low)

    @property
    def excludes_zero(self) -> bool:
        """Whether the mean is farther from 0 than the plain t interval reaches, on no other scale than its own: on a
        logarithmic one, no interval ever reaches 0. False for one seed, which has no interval."""
        return self.se is not None and abs(self.mean) > quantile(self.n) * self.se

    def within(self, bounds: Bounds) -> Interval:
        """Cut at the bounds of what can be. It covers the expected value as often as it did before."""
        if self.low is None or self.high is None:
            return self
        least, greatest = bounds
        low = self.low if least is None else max(self.low, min(least, self.mean))
        high = self.high if greatest is None else min(self.high, max(greatest, self.mean))
        return self._replace(low=low, high=high)

    @property
    def finite(self) -> bool:
        return math.isfinite(self.mean)


def quantile(n: int) -> float:
    """How many standard errors a two-sided Student-t interval over n seeds reaches."""
    return float(stdtrit(n - 1, (1 + LEVEL) / 2))


def interval(values: Iterable[float], bounds: Bounds = UNBOUNDED) -> Interval:
    """Mean and 95 % Student-t interval of one value a seed, within the bounds. Raises ValueError without a value."""
    array = np.fromiter(values, dtype=np.float64)
    n = array.size
    if n == 0:
        raise ValueError("no values to take the mean of")
    if not np.isfinite(array).all():
        with np.errstate(invalid="ignore"):
            return Interval(n, float(array.mean()), None, None, None)
    if n == 1:
        return Interval(n, float(array[0]), None, None, None)
    if array.min() == array.max():  # exactly, without the rounding of a mean
        value = float(array[0])
        return Interval(n, value, 0.0, value, value)
    mean, se = float(array.mean()), float(array.std(ddof=1)) / math.sqrt(n)
    return Interval(n, mean, se, *Scale(bounds).ends(mean, quantile(n) * se))


def share(found: Interval | None, base: Interval | None) -> float | None:
    """A difference as a share of the mean it is taken to; None where that may as well be 0, or has another sign."""
    if found is None or base is None or not found.finite or not base.finite:
        return None
    if not base.excludes_zero or (base.mean + found.mean) * base.mean < 0:
        return None
    return found.mean / abs(base.mean)


def differences(left: Mapping[int, float], right: Mapping[int, float]) -> list[float]:
    """left - right for every seed that both have, in the order of `left`."""
    return [value - right[seed] for seed, value in left.items() if seed in right]


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> Interval | None:
    """Mean and interval of the paired differences left - right ({seed: value}); None when no seed is shared."""
    pairs = differences(left, right)
    return interval(pairs) if pairs else None
