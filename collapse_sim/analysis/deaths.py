"""When parts of a metric die: the generation from which a class stays below a threshold until its chain ends.

A part that is alive at the last generation is right-censored: it may die later. The median over seeds needs no
assumption about survivors as long as they are the minority (for chains that diverged before the end: Kaplan & Meier
1958). Its interval between order statistics covers the median of any distribution with a probability of at least 95 %;
it needs six seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy.special import bdtr

from collapse_sim.analysis.intervals import LEVEL
from collapse_sim.analysis.results import Results
from collapse_sim.metrics.names import part_name

ENOUGH = 6  # seeds for an interval: with 6, the median lies outside all seeds with probability 2 / 2^6


class Life(NamedTuple):
    """One seed: the generation of death (None: alive), and the last generation with a value."""

    death: int | None
    seen: int


class Death(NamedTuple):
    """Over n seeds, in `died` of which the part died. inf: later than the last generation; None: unknown."""

    n: int
    died: int
    median: float
    low: float | None
    high: float | None


def life(values: Mapping[int, float], below: float) -> Life | None:
    """From {generation: value}: the first generation from which all values are below `below`. None without a value.

    Values from the first nan on are ignored: the chain has diverged there.
    """
    first, seen = None, None
    for k, value in sorted(values.items()):
        if math.isnan(value):
            break
        seen = k
        first = None if value >= below else k if first is None else first
    return None if seen is None else Life(first, seen)


def death(lives: Sequence[Life]) -> Death:
    """The median over seeds and its interval. Raises ValueError if there are no seeds."""
    if not lives:
        raise ValueError("no seeds to take the median of")
    n, times = len(lives), sorted(math.inf if entry.death is None else float(entry.death) for entry in lives)
    died = sum(map(math.isfinite, times))
    if len({entry.seen for entry in lives if entry.death is None}) > 1:
        return Death(n, died, _kaplan_meier(lives), None, None)
    low = high = None
    outside = (1 - LEVEL) / 2
    rank = max((r for r in range(1, n // 2 + 1) if bdtr(r - 1, n, 0.5) <= outside), default=0)
    if rank:
        low, high = times[rank - 1], times[n - rank]
    return Death(n, died, times[(n - 1) // 2], low, high)


def _kaplan_meier(lives: Sequence[Life]) -> float:
    """The first generation by which half have died; a seed whose chain ended early counts until then."""
    alive = 1.0
    for k in sorted({entry.death for entry in lives if entry.death is not None}):
        at_risk = sum((entry.seen if entry.death is None else entry.death) >= k for entry in lives)
        alive *= 1 - sum(entry.death == k for entry in lives) / at_risk
        if alive <= 0.5 + 1e-12:
            return float(k)
    return math.inf


def lives(results: Results, arm: str, metric: str, part: str) -> dict[int, Life]:
    """{seed: its life} of a part, in the order of seeds; empty if it has no score, or only nan."""
    below = results.parts[metric].dead_below
    assert below is not None
    by_generation = results.values.get(arm, {}).get(part_name(metric, part), {})
    by_seed: dict[int, Life] = {}
    for seed in results.seeds:
        seed_life = life({k: scores[seed] for k, scores in by_generation.items() if seed in scores}, below)
        if seed_life is not None:
            by_seed[seed] = seed_life
    return by_seed


def mortal(results: Results, metrics: Sequence[str]) -> list[str]:
    """The metrics whose parts can die."""
    return [m for m in metrics if m in results.parts and results.parts[m].dead_below is not None]


def deaths_document(results: Results, metrics: Sequence[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """{arm: {metric: [one entry per part]}}; `generations` (null: alive) and `seen` are in the order of `seeds`."""
    by_arm: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for metric in mortal(results, metrics):
        for arm in results.arms:
            entries = by_arm.setdefault(arm, {})[metric] = []
            for part in results.parts[metric].names:
                by_seed = lives(results, arm, metric, part)
                if by_seed:
                    entries.append({"part": part_name(metric, part), **_entry(results, by_seed)})
    return by_arm


def _entry(results: Results, by_seed: Mapping[int, Life]) -> dict[str, Any]:
    summary = death(list(by_seed.values()))
    in_order = [by_seed.get(seed) for seed in results.seeds]
    return {
        "n": summary.n,
        "died": summary.died,
        **{name: _finite(getattr(summary, name)) for name in ("median", "low", "high")},
        "generations": [entry and entry.death for entry in in_order],
        "seen": [entry and entry.seen for entry in in_order],
    }


def _finite(value: float | None) -> int | None:
    """JSON has no infinity: null if it is later than the last generation."""
    return None if value is None or math.isinf(value) else int(value)
