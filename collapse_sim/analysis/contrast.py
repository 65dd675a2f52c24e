"""One comparison, seed by seed: how sure it is that a mean lies below, and above, so many times another.

Everything that a verdict says comes from these two one-sided p values: a direction is `p(1)`, being equal within 2 %
is being below 1.02 times and above 0.98 times the other side. Taken seed by seed, `left - ratio * right` carries the
scatter of both sides, and what is common to a seed cancels.
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
LEAST = 3  # seeds without scatter that are taken for more than chance


class OneSided(NamedTuple):
    """One-sided p values: small where the left mean surely lies below (above) the right one."""

    below: float
    above: float

    @property
    def flipped(self) -> OneSided:
        return OneSided(self.above, self.below)


NOTHING = OneSided(1.0, 1.0)


@dataclass(frozen=True)
class Contrast:
    """`left` against `right`, factors multiplied in; a side is one value a seed, or one fixed figure (not both)."""

    left: NDArray[np.float64] | float
    right: NDArray[np.float64] | float
    scale: Scale = OWN  # of the metric; counts against a fixed figure only
    resolution: float = 0.0  # the least step the metric can make; rounding counts besides
    looks: int = 1  # generations that are looked at

    @property
    def fixed(self) -> bool:
        """Whether a side is a number or theory."""
        return isinstance(self.left, float) or isinstance(self.right, float)

    @property
    def n(self) -> int:
        """Seeds."""
        return int(np.size(self.left if isinstance(self.right, float) else self.right))

    @property
    def left_mean(self) -> float:
        return interval(np.atleast_1d(self.left)).mean

    @property
    def right_mean(self) -> float:
        return interval(np.atleast_1d(self.right)).mean

    @property
    def trusted(self) -> bool:
        """Whether the seeds are near enough to a symmetrical scatter; of paired differences it is taken so."""
        if isinstance(self.left, float):
            return self.turned.trusted
        return not isinstance(self.right, float) or bool(self.scale.trusts(self.left, self.looks))

    @property
    def turned(self) -> Contrast:
        return Contrast(self.right, self.left, self.scale, self.resolution, self.looks)

    @property
    def difference(self) -> Interval:
        """left - right with its 95 % interval; against a fixed figure, made on the metric's scale."""
        if isinstance(self.left, float):
            found = self.turned.difference
            low, high = (None if end is None else -end for end in (found.high, found.low))
            return found._replace(mean=-found.mean, low=low, high=high)
        if not isinstance(self.right, float):
            return interval(self.left - self.right)
        own = interval(self.left, self.scale.bounds)
        low, high = (None if end is None else end - self.right for end in (own.low, own.high))
        return own._replace(mean=own.mean - self.right, low=low, high=high)

    @property
    def blunt(self) -> bool:
        """Whether the seeds scatter less than the metric can resolve."""
        gaps = np.asarray(self.left - self.right)
        return self.n > 1 and float(gaps.std(ddof=1)) <= float(_step(self.left, self.right, self.resolution))

    @property
    def unresolved(self) -> bool:
        """Whether the means differ by no more than the metric can resolve."""
        gap = float(np.mean(self.left - self.right))
        return abs(gap) <= float(_step(self.left, self.right, self.resolution))

    def p(self, ratio: float = 1.0) -> OneSided:
        """That left < ratio * right, and that left > ratio * right, for a ratio above 0."""
        if isinstance(self.left, float):
            return self.turned.p(1 / ratio).flipped
        if self.n < 2 or not self.difference.finite:
            return NOTHING
        below, above = p_values(self.left, ratio * self.right, self.scale, self.resolution, self.looks)
        return OneSided(float(below), float(above))

    def near(self, share: float) -> tuple[OneSided, OneSided]:
        """Against the lower and the upper end of right's mean -+ share of its size."""
        low, high = (1 - share, 1 + share) if self.right_mean >= 0 else (1 + share, 1 - share)
        return self.p(low), self.p(high)


def p_values(
    left: NDArray[np.float64], right: Numbers, scale: Scale = OWN, resolution: float = 0.0, looks: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One-sided p values (...) that the mean of left (..., n) lies below right, and above it.

    `right` is (..., n) values seed by seed, or one fixed figure, against which the mean is tested on the metric's
    scale. All are finite, and n is 2 or more.

    Scatter below the resolution is taken for the resolution, and decides only for `LEAST` seeds or more that differ by
    more than it. Nothing is decided by values that are too skewed for a test of their mean.
    """
    n = left.shape[-1]
    gaps = left - right
    gap, scatter, step = gaps.mean(-1), gaps.std(-1, ddof=1), _step(left, right, resolution)
    blunt = scatter <= step
    open_ = blunt & ((np.abs(gap) <= step) | (n < LEAST))
    se = np.where(blunt, step, scatter) / math.sqrt(n)
    if isinstance(right, float):
        open_ |= ~scale.trusts(left, looks)
        mean = left.mean(-1)
        inside = scale.inside(mean) & scale.inside(right)
        if inside.any():
            safe = np.where(inside, mean, mean[inside].flat[0] if mean.ndim else mean)
            gap = np.where(inside, scale.g(safe) - scale.g(right), gap)
            se = np.where(inside, se * scale.slope(safe), se)
    t = gap / np.where(se > 0, se, 1.0)
    below, above = (np.where(open_, 1.0, stdtr(n - 1, sign * t)) for sign in (1, -1))
    return below, above


def _step(left: Numbers, right: Numbers, resolution: float) -> NDArray[np.float64]:
    """The least difference that counts."""
    largest = np.maximum(np.abs(np.atleast_1d(left)).max(-1), np.abs(np.atleast_1d(right)).max(-1))
    return np.asarray(np.maximum(resolution * (1 + ROUNDING), ROUNDING * largest))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Each p value as large as Holm's step-down procedure makes it, in the given order; at most 1.

    The least of m is multiplied by m, the next by m - 1 ..., and none becomes less than one before it.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found = [1.0] * len(p_values)
    reached = 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(order) - rank) * p_values[i]))
        found[i] = reached
    return found
