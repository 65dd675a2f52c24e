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
    going, levelling = (_nearest(curves, others) for curves in (_going(others, k, positive), _levelling(others, k)))
    gaps = _errors(going, own) - _errors(levelling, own)
    rounding = float((ROUNDING * np.abs(own).max()) ** 2)
    below, above = (float(p) for p in p_values(_widened(gaps), 0.0, resolution=rounding))
    p = min(1.0, 2 * min(below, above))
    if p > alpha:
        return LevelOff("undecided", p)
    if above < below:
        return LevelOff("levels off", p, _limit(own.mean(0), k, positive))
    return LevelOff("keeps going" if moves else "undecided", p)


def _widened(gaps: Numbers) -> Numbers:
    """With the scatter that leave-one-out hides, since all but one seed are the same in any two fits: the variance of
    the mean is s^2 (1/n + 1/(n - 1)) (Nadeau & Bengio 2003)."""
    n = len(gaps)
    return np.asarray(gaps.mean() + (gaps - gaps.mean()) * math.sqrt(1 + n / (n - 1)))


def _going(target: Numbers, k: Numbers, positive: bool) -> list[Numbers]:
    """Curves (n, K) through each target (n, K), of logarithms if positive: then also logarithms of curves."""
    designs = [np.stack([np.ones_like(k), rise], 1) for rise in (k, np.sqrt(k), np.log1p(k))]
    if not positive:
        return [_fitted(design, target) for design in designs]
    means = np.exp(target - target.mean(1, keepdims=True))
    return [_fitted(designs[0], target), *(_logarithm_of_fitted(design, means) for design in designs)]


def _logarithm_of_fitted(design: Numbers, means: Numbers) -> Numbers:
    """By least squares of relative errors, which are those of logarithms if small; nan where it is not positive."""
    weights = 1 / means**2
    left = np.einsum("kp,nk,kq->npq", design, weights, design, optimize=True)
    right = (1 / means) @ design
    curve = np.linalg.solve(left, right[..., None])[..., 0] @ design.T
    inside = (curve > 0).all(1, keepdims=True)
    return np.asarray(np.where(inside, np.log(np.where(inside, curve, 1.0)), math.nan))


def _levelling(target: Numbers, k: Numbers) -> list[Numbers]:
    return [_fitted(design, target) for design in _designs(k)]


def _designs(k: Numbers) -> list[Numbers]:
    """Constant and rise (K, 2) of the curves that level off."""
    rises = [1 - np.exp(-k / (c * k[-1])) for c in np.geomspace(*_EXPONENTIAL, _STEPS)]
    rises += [k / (k + c * k[-1]) for c in np.geomspace(*_HYPERBOLIC, _STEPS)]
    return [np.stack([np.ones_like(k), rise], 1) for rise in rises]


def _fitted(design: Numbers, target: Numbers) -> Numbers:
    return np.asarray((design @ np.linalg.lstsq(design, target.T, rcond=None)[0]).T)


def _errors(curve: Numbers, target: Numbers) -> Numbers:
    """(n,): mean squared distance of each curve from its target, both without their means: only shapes count."""
    own, other = (values - values.mean(1, keepdims=True) for values in (curve, target))
    return np.asarray(((own - other) ** 2).mean(1))


def _nearest(curves: list[Numbers], target: Numbers) -> Numbers:
    """(n, K): of several curves the one nearest to each target."""
    errors = np.stack([_errors(curve, target) for curve in curves])
    chosen = np.where(np.isfinite(errors), errors, math.inf).argmin(0)
    return np.asarray(np.stack(curves)[chosen, np.arange(len(target))])


def _limit(mean: Numbers, k: Numbers, positive: bool) -> float:
    """The limit of the nearest curve that levels off: a + b."""
    fits = [np.linalg.lstsq(design, mean, rcond=None)[0] for design in _designs(k)]
    errors = [float(((design @ fit - mean) ** 2).sum()) for design, fit in zip(_designs(k), fits, strict=True)]
    limit = float(fits[int(np.argmin(errors))].sum())
    return math.exp(limit) if positive else limit
