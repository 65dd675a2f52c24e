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


class Interval(NamedTuple):
    """A mean over n seeds. `se` (standard error), `low` and `high` are None for one seed or non-finite values."""

    n: int
    mean: float
    se: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half the interval's width: mean +- half."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


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


def differences(left: Mapping[int, float], right: Mapping[int, float]) -> list[float]:
    """left - right for every seed that both have, in the order of `left`."""
    return [value - right[seed] for seed, value in left.items() if seed in right]


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> Interval | None:
    """Mean and interval of the paired differences left - right ({seed: value}); None when no seed is shared."""
    pairs = differences(left, right)
    return interval(pairs) if pairs else None
