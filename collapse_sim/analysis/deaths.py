"""When parts of a metric die: the generation from which on a class stays below a threshold, to the end of its chain.

A part that is alive at the last generation is right-censored there: it may die later, and no figure pretends to know.
Over seeds the median is given, which needs no guess for the survivors as long as they are the minority (Kaplan & Meier
1958 for chains that end early because they diverged), with the interval between order statistics that covers the median
of any distribution with at least 95 %: it takes six seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy.special import bdtr

from collapse_sim.analysis.intervals import LEVEL
from collapse_sim.analysis.results import Results
from collapse_sim.metrics.names import part_name

ENOUGH = 6  # seeds for an interval: 2 / 2^6 of all medians lie outside of all seeds


class Life(NamedTuple):
    """One seed's: the generation of death, None while it lives, and the last generation that was looked at."""

    death: int | None
    seen: int


class Death(NamedTuple):
    """Over n seeds, `died` of which have lost it. inf: later than any generation there is; None: not to be told."""

    n: int
    died: int
    median: float
    low: float | None
    high: float | None


def life(values: Mapping[int, float], below: float) -> Life | None:
    """From {generation: value}: the first generation from which on all values are below. None without a value.

    Values end where the first is nan: the chain has diverged there.
    """
    first, seen = None, None
    for k, value in sorted(values.items()):
        if math.isnan(value):
            break
        seen = k
        first = None if value >= below else k if first is None else first
    return None if seen is None else Life(first, seen)


def death(lives: Sequence[Life]) -> Death:
    """The median over seeds and its interval. Raises ValueError without a seed."""
    if not lives:
        raise ValueError("no seeds to take the median of")
    n, times = len(lives), sorted(math.inf if one.death is None else float(one.death) for one in lives)
    died = sum(map(math.isfinite, times))
    if len({one.seen for one in lives if one.death is None}) > 1:
        return Death(n, died, _kaplan_meier(lives), None, None)
    low = high = None
    outside = (1 - LEVEL) / 2
    rank = max((r for r in range(1, n // 2 + 1) if bdtr(r - 1, n, 0.5) <= outside), default=0)
    if rank:
        low, high = times[rank - 1], times[n - rank]
    return Death(n, died, times[(n - 1) // 2], low, high)


def _kaplan_meier(lives: Sequence[Life]) -> float:
    """The first generation by which half have died, seeds that were not seen to the end counting while they were."""
    alive = 1.0
    for k in sorted({one.death for one in lives if one.death is not None}):
        at_risk = sum((one.seen if one.death is None else one.death) >= k for one in lives)
        alive *= 1 - sum(one.death == k for one in lives) / at_risk
        if alive <= 0.5 + 1e-12:
            return float(k)
    return math.inf


def lives(results: Results, arm: str, metric: str, part: str) -> dict[int, Life]:
    """{seed: its life} of a part, in the order of seeds; empty where it is not scored, or never a number."""
    below = results.parts[metric].dead_below
    assert below is not None
    by_generation = results.values.get(arm, {}).get(part_name(metric, part), {})
    found: dict[int, Life] = {}
    for seed in results.seeds:
        one = life({k: scores[seed] for k, scores in by_generation.items() if seed in scores}, below)
        if one is not None:
            found[seed] = one
    return found


def mortal(results: Results, metrics: Sequence[str]) -> list[str]:
    """The metrics whose parts can die."""
    return [m for m in metrics if m in results.parts and results.parts[m].dead_below is not None]


def deaths_document(results: Results, metrics: Sequence[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """{arm: {metric: [a part each]}}: `generations` and `seen` are in the order of `seeds`, null for the living."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for metric in mortal(results, metrics):
        for arm in results.arms:
            entries = found.setdefault(arm, {})[metric] = []
            for part in results.parts[metric].names:
                of = lives(results, arm, metric, part)
                if of:
                    entries.append({"part": part_name(metric, part), **_entry(results, of)})
    return found


def _entry(results: Results, of: Mapping[int, Life]) -> dict[str, Any]:
    told = death(list(of.values()))
    each = [of.get(seed) for seed in results.seeds]
    return {
        "n": told.n,
        "died": told.died,
        **{name: _finite(getattr(told, name)) for name in ("median", "low", "high")},
        "generations": [one and one.death for one in each],
        "seen": [one and one.seen for one in each],
    }


def _finite(value: float | None) -> int | None:
    """JSON has no infinity: null where it is later than any generation."""
    return None if value is None or math.isinf(value) else int(value)
