"""The change of a metric from generation 0 to the last, in the direction of collapse, tested in both ways."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from collapse_sim.analysis.contrast import Contrast
from collapse_sim.analysis.intervals import Interval, interval
from collapse_sim.analysis.reached import divergences
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_intervals import influence_of, over_rows
from collapse_sim.analysis.scale import UNBOUNDED, Bounds, Scale


class Change(NamedTuple):
    """Two-sided p values that a metric got worse (seen), and that it got worse by less than the margin (absent)."""

    metric: str
    generation: int  # the last one
    difference: Interval  # last - generation 0, paired by seed, or over the held-out rows of one seed
    before: Interval  # generation 0
    seen: float = 1.0
    absent: float = 1.0
    rows: int = 0  # held-out rows that decide
    why: str = ""  # why nothing can be decided

    @property
    def has_margin(self) -> bool:
        """Whether a share of generation 0's mean means anything: whether that is not 0."""
        return self.before.finite and (
            self.before.excludes_zero if self.before.se is not None else self.before.mean != 0
        )


def change_of(results: Results, arm: str, metric: str, margin: float) -> Change | None:
    """The change of an arm; None if it is not scored at generation 0 and at a later one.

    Collapse is the direction that is not `better`, and a fall for a metric without a better direction.
    """
    scored = results.scored(metric, [arm])
    if not scored or scored[0] != 0 or scored[-1] == 0:
        return None
    last, first = results.scores(arm, metric, scored[-1]), results.scores(arm, metric, 0)
    seeds = [seed for seed in last if seed in first]
    if not seeds:
        return None
    left, right = (np.array([scores[seed] for seed in seeds], dtype=np.float64) for scores in (last, first))
    falls = results.metrics[metric] != "lower"
    difference, before = _within(interval(left - right), results.bounds.get(metric, UNBOUNDED)), interval(right)
    change = Change(metric, scored[-1], difference, before)
    if not difference.finite:
        return change._replace(why="; ".join(["not every score is finite", *divergences(results, [arm])]))
    if len(seeds) == 1:
        return _by_rows(results, arm, change, seeds, margin, falls=falls)
    scale = Scale(results.bounds.get(metric, UNBOUNDED))
    contrast = Contrast(left, right, scale, results.resolutions.get(metric, 0.0))
    lower, upper = contrast.near(margin)
    one_sided = (contrast.p().below, lower.above) if falls else (contrast.p().above, upper.below)
    seen, absent = (min(1.0, 2 * p) for p in one_sided)
    if not scale.trusts(left):
        absent = 1.0  # a few seeds dominate the mean: that they are missing excludes nothing
    return change._replace(seen=seen, absent=absent)


def _within(difference: Interval, bounds: Bounds) -> Interval:
    """Cut at the greatest difference that bounds allow."""
    least, greatest = bounds
    return difference if least is None or greatest is None else difference.within((least - greatest, greatest - least))


def _by_rows(results: Results, arm: str, change: Change, seeds: list[int], margin: float, *, falls: bool) -> Change:
    """The change of one seed, by its held-out rows."""
    last, first = (influence_of(results, arm, change.metric, k, seeds) for k in (change.generation, 0))
    if last is None or first is None or last.shape != first.shape:
        return change._replace(why="one seed gives no interval: add seeds")
    difference = over_rows(change.difference.mean, last - first)
    before = over_rows(change.before.mean, first)
    if difference is None or before is None:
        return change._replace(why="the held-out rows give no interval")
    sign, base = (-1 if falls else 1), change.before.mean
    ratio = 1 + sign * margin * (1 if base >= 0 else -1)
    seen = 2 * _below(-sign * change.difference.mean, last - first)
    absent = 2 * _below(sign * (base + change.difference.mean - ratio * base), last - ratio * first)
    return change._replace(
        difference=difference, before=before, seen=min(1.0, seen), absent=min(1.0, absent), rows=difference.n
    )


def _below(mean: float, influence: NDArray[np.float64]) -> float:
    """The one-sided p value that a mean with these influences of n rows lies below 0."""
    n = len(influence)
    se = float(influence.std(ddof=1)) / np.sqrt(n)
    return float(stdtr(n - 1, mean / se)) if se > 0 else 1.0
