"""Means over seeds and their 95 % Student-t intervals.

A seed is one independent repetition of the whole chain, so the n values of one arm at one generation are independent,
and mean +- t(0.975; n - 1) * s / sqrt(n) covers the expectation in 95 % of experiments if they are nearly normal.
If a metric has bounds, the interval is computed on an unbounded scale (scale.py) and its ends are transformed back.
Arms share their randomness per seed, so two arms are compared by the interval of their paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from collapse_sim.analysis.scale import UNBOUNDED, Bounds, Scale

LEVEL = 0.95
LARGEST_SHARE = 10.0  # 1,000 %: larger ratios are shown as differences


class Interval(NamedTuple):
    """A mean over n seeds. `se` (standard error), `low` and `high` are None for one seed or non-finite values."""

    n: int
    mean: float
    se: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """The distance from the mean to the farther end."""
        return None if self.low is None or self.high is None else max(self.high - self.mean, self.mean - self.low)

    @property
    def excludes_zero(self) -> bool:
        """Whether the plain t interval excludes 0. On a logarithmic scale, no interval would ever reach 0. False for
        one seed, which has no interval."""
        return self.se is not None and abs(self.mean) > quantile(self.n) * self.se

    def within(self, bounds: Bounds) -> Interval:
        """The interval cut at the bounds. It covers the expected value as often as before."""
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
    """The half-width of a two-sided Student-t interval over n seeds, in standard errors."""
    return float(stdtrit(n - 1, (1 + LEVEL) / 2))


def interval(values: Iterable[float], bounds: Bounds = UNBOUNDED) -> Interval:
    """Mean and 95 % Student-t interval of one value per seed, within the bounds. Raises ValueError without a value."""
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


def share(difference: Interval | None, base: Interval | None) -> float | None:
    """A difference as a share of the baseline's mean; None unless that excludes 0, is not near 0 beside the difference,
    and the sign is kept."""
    if difference is None or base is None or not difference.finite or not base.finite:
        return None
    if not base.excludes_zero or (base.mean + difference.mean) * base.mean < 0 or near_zero(base.mean, difference.mean):
        return None
    return difference.mean / abs(base.mean)


def near_zero(base: float, difference: float) -> bool:
    """Whether a baseline is so small beside a difference that a ratio of the two would say nothing."""
    return abs(difference) > LARGEST_SHARE * abs(base)


def differences(left: Mapping[int, float], right: Mapping[int, float]) -> list[float]:
    """left - right per seed that both have, in the order of `left`."""
    return [value - right[seed] for seed, value in left.items() if seed in right]


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> Interval | None:
    """Mean and interval of the paired differences left - right ({seed: value}); None if no seed is shared."""
    pairs = differences(left, right)
    return interval(pairs) if pairs else None
