"""How the loss falls with the amount of real data, at generation 0 and at the last: a power law's exponent.

Loss ~ rows^-c; "slower scaling" is a smaller c (Dohmatob et al. 2024, "A Tale of Tails"). Only arms that differ in
nothing but the number of real rows that generation 0 is fitted to can show it: points of a grid over `data.rows`, or
those of several runs that are compared together.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collapse_sim.analysis.contrast import Contrast
from collapse_sim.analysis.rates import slopes_of
from collapse_sim.analysis.reached import common
from collapse_sim.analysis.results import Results

FEWEST_SIZES = 3


class Scaling(NamedTuple):
    metric: str
    sizes: tuple[int, ...]  # real rows of generation 0, ascending
    generation: int
    contrast: Contrast  # exponents per seed, the last generation's against generation 0's
    seen: float  # two-sided p value that the exponent falls
    absent: float  # and that it falls by less than the margin


def scaling_by_arm(results: Results, margin: float) -> dict[str, Scaling | None]:
    """The scaling of every arm with those that differ from it in size only; None for fewer than three sizes, and where
    several arms have the same."""
    groups: dict[str, list[str]] = {}
    for arm in results.arms:
        own = {key: value for key, value in results.settings.get(arm, {}).items() if key != "rows"}
        key = json.dumps([own, results.shared.get(arm)], sort_keys=True, default=str)
        groups.setdefault(key, []).append(arm)
    return {arm: _scaling(results, arms, margin) for arms in groups.values() for arm in arms}


def _scaling(results: Results, arms: list[str], margin: float) -> Scaling | None:
    trained = [arm for arm in arms if arm in results.training]
    by_size = {results.training[arm].rows[0]: arm for arm in trained}
    sizes = sorted(by_size)
    metric = next((name for name, aspects in results.measures.items() if "risk" in aspects), None)
    if len(sizes) < max(FEWEST_SIZES, len(trained)) or metric is None:
        return None
    ordered = [by_size[size] for size in sizes]
    last = common(results, [metric], ordered)
    if not last:
        return None
    by_generation = {k: [results.scores(arm, metric, k) for arm in ordered] for k in (last, 0)}
    every = [scores for by_arm in by_generation.values() for scores in by_arm]
    seeds = [seed for seed in results.seeds if all(seed in scores for scores in every)]
    exponents: dict[int, NDArray[np.float64]] = {}
    for k, by_arm in by_generation.items():
        losses = np.array([[scores[seed] for scores in by_arm] for seed in seeds], dtype=np.float64)
        if not seeds or not np.isfinite(losses).all() or losses.min() <= 0:
            return None
        exponents[k] = -slopes_of(np.log(losses), np.log(np.array(sizes, dtype=np.float64)))
    contrast = Contrast(exponents[last], exponents[0])
    lower, _ = contrast.near(margin)
    seen, absent = (min(1.0, 2 * p) for p in (contrast.p().below, lower.above))
    return Scaling(metric, tuple(sizes), last, contrast, seen, absent)
