"""Means over seeds and their 95 % Student-t intervals.

A seed is one independent repetition of the whole chain, so the n values of one arm at one generation are independent,
and mean +- t(0.975; n - 1) * s / sqrt(n) covers the expectation in 95 % of experiments when they are near normal.
Arms share their randomness seed by seed, so two arms are compared by the interval of their paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
_NEAR = 0.01  # of the largest mean: less than that is near 0
Bounds = tuple[float | None, float | None]  # the least and the greatest value there can be; None: no such value
UNBOUNDED: Bounds = (None, None)


class Interval(NamedTuple):
    """A mean over n seeds. `se` (standard error), `low` and `high` are None for one seed or non-finite values."""

    n: int
    mean: float
    se: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """The distance of the mean from the farther end: half the width of an interval that no bound cuts."""
        return None if self.low is None or self.high is None else max(self.high - self.mean, self.mean - self.low)

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


def interval(values: Iterable[float]) -> Interval:
    """Mean and 95 % Student-t interval of one value a seed. Raises ValueError when there is no value."""
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
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * se
    return Interval(n, mean, se, mean - half, mean + half)


def share(found: Interval | None, base: Interval | None, largest: float) -> float | None:
    """A difference as a share of the mean it is taken to; None where that may as well be 0, or has another sign."""
    if found is None or base is None or not found.finite or not base.finite:
        return None
    if near_zero(base, largest) or (base.mean + found.mean) * base.mean < 0:
        return None
    return found.mean / abs(base.mean)


def near_zero(mean: Interval, largest: float) -> bool:
    """Whether a mean may as well be 0: no farther from it than half its own 95 % interval.

    Of one seed, which has no interval: less than a hundredth of the `largest` mean that it is seen beside.
    """
    size = abs(mean.mean)
    return size == 0 or (size <= mean.half if mean.half is not None else size < _NEAR * largest)


def largest(means: Iterable[Interval]) -> float:
    """The greatest finite absolute mean, 0.0 for none."""
    return max((abs(found.mean) for found in means if found.finite), default=0.0)


def differences(left: Mapping[int, float], right: Mapping[int, float]) -> list[float]:
    """left - right for every seed that both have, in the order of `left`."""
    return [value - right[seed] for seed, value in left.items() if seed in right]


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> Interval | None:
    """Mean and interval of the paired differences left - right ({seed: value}); None when no seed is shared."""
    pairs = differences(left, right)
    return interval(pairs) if pairs else None
