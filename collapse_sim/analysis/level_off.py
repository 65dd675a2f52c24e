"""Does a curve level off? Curves that do against curves that keep going, by how well they predict seeds left out.

The errors of one chain are no independent noise: under replace they add up from generation to generation, and a single
chain's bends say nothing about the expected curve. Seeds are independent. So each curve is fitted to the mean over all
seeds but one and compared with that one (leave-one-out); the difference of the two squared errors is a number for each
seed, whose mean is tested by a t test.

Keeps going: a + b k, more and more slowly a + b sqrt(k) or a + b log(1 + k), and exp(a + b k) if the metric is
positive. Levels off: a + b (1 - exp(-k/c)), the approach of a contraction, such as a constant share of real rows, or
a + b k/(k + c), whose distance from the limit falls as 1/k, as for accumulated rows (sum of 1/k^2, Gerstgrasser et al.
2024). c is limited so that at the last generation the slope is at most a seventh of the first one: otherwise these
would be straight lines, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from collapse_sim.analysis.contrast import LEAST, ROUNDING, p_values

Shape = Literal["levels off", "keeps going", "undecided"]
Numbers = NDArray[np.float64]

FEWEST = 5  # scored generations: a curve that levels off has three parameters
_STEPS = 16  # values of c that are tried
_EXPONENTIAL, _HYPERBOLIC = (0.05, 0.5), (0.02, 0.25)  # the range of c, in lengths of the curve
_LARGEST = 700.0  # logarithms above overflow


@dataclass(frozen=True)
class LevelOff:
    shape: Shape
    p: float | None = None  # two-sided, that both kinds of curves predict equally well
    limit: float | None = None  # the limit of the curve that levels off, fitted to the mean over seeds


def level_off(values: Numbers, generations: Numbers, *, positive: bool, alpha: float, moves: bool) -> LevelOff:
    """The shape of the curves (seeds, generations); `moves`: whether their mean slope differs significantly from 0.

    Positive values are compared by their logarithms.
    """
    n = len(values)
    if n < LEAST or len(generations) < FEWEST:
        return LevelOff("undecided")
    k = generations - generations[0]
    own = np.log(values) if positive else values
    others = (own.sum(0) - own) / (n - 1)
    own, others = (curves - curves.mean(1, keepdims=True) for curves in (own, others))  # only shapes count
    gaps = _errors(_going(others, k, positive), own) - _errors(_projected(others, _levelling(k)), own)
    rounding = float((ROUNDING * np.abs(np.log(values) if positive else values).max()) ** 2)
    below, above = (float(p) for p in p_values(_widened(gaps), 0.0, resolution=rounding))
    p = min(1.0, 2 * min(below, above))
    if p > alpha:
        return LevelOff("undecided", p)
    if above < below:
        return LevelOff("levels off", p, _limit(values, k, positive))
    return LevelOff("keeps going" if moves else "undecided", p)


def _widened(gaps: Numbers) -> Numbers:
    """With the scatter that leave-one-out hides, since all but one seed are the same in any two fits: the variance of
    the mean is s^2 (1/n + 1/(n - 1)) (Nadeau & Bengio 2003)."""
    n = len(gaps)
    return np.asarray(gaps.mean() + (gaps - gaps.mean()) * math.sqrt(1 + n / (n - 1)))


def _going(target: Numbers, k: Numbers, positive: bool) -> Numbers:
    """The nearest curve that keeps going to each target (n, K) without its mean, which has logarithms if positive."""
    rises = [k, np.sqrt(k), np.log1p(k)]
    if not positive:
        return _projected(target, rises)
    means = np.exp(target)
    curves = [_projected(target, rises[:1]), *(_logarithm_of_fitted(rise, means) for rise in rises)]
    errors = np.stack([_errors(curve, target) for curve in curves])
    chosen = np.where(np.isfinite(errors), errors, math.inf).argmin(0)
    return np.asarray(np.stack(curves)[chosen, np.arange(len(target))])


def _levelling(k: Numbers) -> list[Numbers]:
    """The rises (K,) from 0 to 1 of the curves that level off."""
    rises = [1 - np.exp(-k / (c * k[-1])) for c in np.geomspace(*_EXPONENTIAL, _STEPS)]
    return rises + [k / (k + c * k[-1]) for c in np.geomspace(*_HYPERBOLIC, _STEPS)]


def _projected(target: Numbers, rises: list[Numbers]) -> Numbers:
    """(n, K): for each target without its mean, the nearest of its least-squares fits by multiples of the rises."""
    units = np.stack([rise - rise.mean() for rise in rises])
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    sizes = target @ units.T
    nearest = np.abs(sizes).argmax(1)
    return np.asarray(sizes[np.arange(len(target)), nearest, None] * units[nearest])


def _logarithm_of_fitted(rise: Numbers, means: Numbers) -> Numbers:
    """The logarithm of a + b rise without its mean, by least squares of relative errors, which are those of logarithms
    if small; nan where the curve is not positive."""
    design = np.stack([np.ones_like(rise), rise], 1)
    weights = 1 / means**2
    left = np.stack([[weights @ (one * other) for one in design.T] for other in design.T]).transpose(2, 0, 1)
    right = (1 / means) @ design
    curve = np.linalg.solve(left, right[..., None])[..., 0] @ design.T
    inside = (curve > 0).all(1, keepdims=True)
    logs = np.where(inside, np.log(np.where(inside, curve, 1.0)), math.nan)
    return np.asarray(logs - logs.mean(1, keepdims=True))


def _errors(curve: Numbers, target: Numbers) -> Numbers:
    """(n,): mean squared distances."""
    return np.asarray(((curve - target) ** 2).mean(1))


def _limit(values: Numbers, k: Numbers, positive: bool) -> float:
    """The limit of the curve that levels off, fitted to the mean of all seeds."""
    mean = (np.log(values) if positive else values).mean(0)
    rises = _levelling(k)
    fits = [np.linalg.lstsq(np.stack([np.ones_like(k), rise], 1), mean, rcond=None)[0] for rise in rises]
    errors = [float(((a + b * rise - mean) ** 2).sum()) for (a, b), rise in zip(fits, rises, strict=True)]
    limit = float(sum(fits[int(np.argmin(errors))]))
    return math.exp(min(limit, _LARGEST)) if positive else limit
