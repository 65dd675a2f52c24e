"""One comparison, paired by seed: p values that one mean is below, and above, a multiple of another mean.

Every verdict follows from these two one-sided p values: a direction is `p(1)`; equality within 2 % means below 1.02
times and above 0.98 times the other side. Computed per seed, `left - ratio * right` contains the scatter of both sides,
and what is common to a seed cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from collapse_sim.analysis.intervals import Interval, interval
from collapse_sim.analysis.scale import OWN, Numbers, Scale

ROUNDING = 1e-6  # relative: scores are sums in float32
LEAST = 3  # the least number of seeds that can decide without scatter


class OneSided(NamedTuple):
    """One-sided p values: small if the left mean is significantly below (above) the right one."""

    below: float
    above: float

    @property
    def flipped(self) -> OneSided:
        return OneSided(self.above, self.below)


NOTHING = OneSided(1.0, 1.0)


@dataclass(frozen=True)
class Contrast:
    """`left` against `right`, including factors; a side is one value per seed or one fixed value (not both fixed)."""

    left: NDArray[np.float64] | float
    right: NDArray[np.float64] | float
    scale: Scale = OWN  # of the metric; used only against a fixed value
    resolution: float = 0.0  # the metric's smallest step; rounding errors count too
    looks: int = 1  # number of generations tested

    @property
    def fixed(self) -> bool:
        """Whether one side is a number or theory."""
        return isinstance(self.left, float) or isinstance(self.right, float)

    @property
    def n(self) -> int:
        """The number of seeds."""
        return int(np.size(self.left if isinstance(self.right, float) else self.right))

    @property
    def left_mean(self) -> float:
        return interval(np.atleast_1d(self.left)).mean

    @property
    def right_mean(self) -> float:
        return interval(np.atleast_1d(self.right)).mean

    @property
    def trusted(self) -> bool:
        """Whether the seeds scatter symmetrically enough for a t test; assumed for paired differences."""
        if isinstance(self.left, float):
            return self.swapped.trusted
        return not isinstance(self.right, float) or bool(self.scale.trusts(self.left, self.looks))

    @property
    def swapped(self) -> Contrast:
        return Contrast(self.right, self.left, self.scale, self.resolution, self.looks)

    @property
    def difference(self) -> Interval:
        """left - right with its 95 % interval; against a fixed value, computed on the metric's scale."""
        if isinstance(self.left, float):
            swapped = self.swapped.difference
            low, high = (None if end is None else -end for end in (swapped.high, swapped.low))
            return swapped._replace(mean=-swapped.mean, low=low, high=high)
        if not isinstance(self.right, float):
            return interval(self.left - self.right)
        own = interval(self.left, self.scale.bounds)
        low, high = (None if end is None else end - self.right for end in (own.low, own.high))
        return own._replace(mean=own.mean - self.right, low=low, high=high)

    @property
    def blunt(self) -> bool:
        """Whether the seeds scatter by no more than the metric's resolution."""
        gaps = np.asarray(self.left - self.right)
        return self.n > 1 and float(gaps.std(ddof=1)) <= float(_step(self.left, self.right, self.resolution))

    @property
    def unresolved(self) -> bool:
        """Whether the means differ by no more than the metric's resolution."""
        gap = float(np.mean(self.left - self.right))
        return abs(gap) <= float(_step(self.left, self.right, self.resolution))

    def p(self, ratio: float = 1.0) -> OneSided:
        """P values for left < ratio * right and for left > ratio * right; the ratio must be above 0."""
        if isinstance(self.left, float):
            return self.swapped.p(1 / ratio).flipped
        if self.n < 2 or not self.difference.finite:
            return NOTHING
        below, above = p_values(self.left, ratio * self.right, self.scale, self.resolution, self.looks)
        return OneSided(float(below), float(above))

    def near(self, share: float) -> tuple[OneSided, OneSided]:
        """P values against the lower and the upper end of right's mean -+ this share of its size."""
        low, high = (1 - share, 1 + share) if self.right_mean >= 0 else (1 + share, 1 - share)
        return self.p(low), self.p(high)


def p_values(
    left: NDArray[np.float64], right: Numbers, scale: Scale = OWN, resolution: float = 0.0, looks: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One-sided p values (...) that the mean of left (..., n) lies below right, and above it.

    `right` is (..., n) values, paired by seed, or one fixed value, against which the mean is tested on the metric's
    scale. All must be finite, and n at least 2.

    Scatter below the resolution is replaced by the resolution; then at least `LEAST` seeds, and a mean difference above
    the resolution, are needed to decide. Values that are too skewed for a test of their mean decide nothing.
    """
    n = left.shape[-1]
    gaps = left - right
    gap, scatter, step = gaps.mean(-1), gaps.std(-1, ddof=1), _step(left, right, resolution)
    blunt = scatter <= step
    undecidable = blunt & ((np.abs(gap) <= step) | (n < LEAST))
    se = np.where(blunt, step, scatter) / math.sqrt(n)
    if isinstance(right, float):
        undecidable |= ~scale.trusts(left, looks)
        mean = left.mean(-1)
        inside = scale.inside(mean) & scale.inside(right)
        if inside.any():
            safe = np.where(inside, mean, mean[inside].flat[0] if mean.ndim else mean)
            gap = np.where(inside, scale.g(safe) - scale.g(right), gap)
            se = np.where(inside, se * scale.slope(safe), se)
    t = gap / np.where(se > 0, se, 1.0)
    below, above = (np.where(undecidable, 1.0, stdtr(n - 1, sign * t)) for sign in (1, -1))
    return below, above


def _step(left: Numbers, right: Numbers, resolution: float) -> NDArray[np.float64]:
    """The smallest difference that counts."""
    largest = np.maximum(np.abs(np.atleast_1d(left)).max(-1), np.abs(np.atleast_1d(right)).max(-1))
    return np.asarray(np.maximum(resolution * (1 + ROUNDING), ROUNDING * largest))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted by Holm's step-down procedure, in the given order; at most 1.

    The smallest of m is multiplied by m, the next by m - 1 ..., and none becomes less than a previous one.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted_p = [1.0] * len(p_values)
    running_max = 0.0
    for rank, i in enumerate(order):
        running_max = max(running_max, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted_p[i] = running_max
    return adjusted_p
