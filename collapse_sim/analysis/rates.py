"""How fast each metric changes per generation in each arm, and whether it levels off (docs/definitions.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collapse_sim.analysis.contrast import LEAST, ROUNDING, p_values
from collapse_sim.analysis.evidence import ALPHA
from collapse_sim.analysis.intervals import interval
from collapse_sim.analysis.level_off import FEWEST, Shape, level_off
from collapse_sim.analysis.reached import divergences
from collapse_sim.analysis.results import Results

LARGEST = 700.0  # logarithms above overflow


@dataclass(frozen=True)
class MetricRate:
    """The change of a metric per generation: the mean of every seed's least-squares slope.

    `slope`, `low` and `high` are shares per generation if `relative` (0.02: 2 % more in every generation), otherwise in
    the metric's unit per generation.
    """

    arm: str
    metric: str
    relative: bool  # a slope of logarithms, of a positive metric
    seeds: int
    first: int  # the generations of the slope
    last: int
    slope: float | None = None  # None: no slope, see `note`
    low: float | None = None  # 95 % Student-t interval over seeds; None for one seed
    high: float | None = None
    p: float | None = None  # two-sided, that the slope is 0
    shape: Shape = "undecided"
    shape_p: float | None = None  # that curves that level off and curves that keep going predict equally well
    limit: float | None = None  # where it levels off, in the metric's unit
    note: str = ""  # why there is no slope or no shape


def rates(results: Results, metrics: Sequence[str] | None = None) -> list[MetricRate]:
    """The rates of every arm by every metric (None: all that are not parts), in the order of metrics and arms.

    A metric has relative rates in all arms if all its scores are above 0.
    """
    chosen = results.metrics_without_parts() if metrics is None else metrics
    return [rate for metric in chosen for arm in results.arms if (rate := rate_of(results, arm, metric)) is not None]


def rate_of(results: Results, arm: str, metric: str) -> MetricRate | None:
    """The rate of one arm; None if it has fewer than two scored generations."""
    scored = results.scored(metric, [arm])
    seeds = [seed for seed in results.seeds if all(seed in results.scores(arm, metric, k) for k in scored)]
    if len(scored) < 2 or not seeds:
        return None
    values = np.array([[results.scores(arm, metric, k)[seed] for k in scored] for seed in seeds], dtype=np.float64)
    relative = _positive(results, metric)
    rate = MetricRate(arm, metric, relative, len(seeds), scored[0], scored[-1])
    if not np.isfinite(values).all():
        why = divergences(results, [arm]) or ["a score is not finite"]
        return replace(rate, note="; ".join(why))
    slopes = slopes_of(np.log(values) if relative else values, np.array(scored, dtype=np.float64))
    over_seeds = interval(slopes)
    rate = replace(rate, slope=over_seeds.mean, low=over_seeds.low, high=over_seeds.high)
    if len(seeds) > 1:
        below, above = p_values(slopes, 0.0, resolution=_rounding(values, relative))
        rate = replace(rate, p=min(1.0, 2 * min(float(below), float(above))))
    moves = rate.p is not None and rate.p <= ALPHA
    curve = level_off(values, np.array(scored, dtype=np.float64), positive=relative, alpha=ALPHA, moves=moves)
    rate = replace(rate, shape=curve.shape, shape_p=curve.p, limit=curve.limit, note=_too_few(len(seeds), len(scored)))
    return _as_shares(rate) if relative else rate


def _as_shares(rate: MetricRate) -> MetricRate:
    """With slopes of logarithms as shares per generation."""
    ends = (rate.slope, rate.low, rate.high)
    slope, low, high = (None if end is None else math.expm1(min(end, LARGEST)) for end in ends)
    return replace(rate, slope=slope, low=low, high=high)


def slopes_of(values: NDArray[np.float64], generations: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, K) values at K generations -> (S,) least-squares slopes."""
    centred = generations - generations.mean()
    return np.asarray(values @ centred / (centred @ centred))


def rates_document(by_arm: Sequence[MetricRate]) -> list[dict[str, Any]]:
    """The entries of `compare --rates --json`."""
    return [asdict(rate) for rate in by_arm]


def _positive(results: Results, metric: str) -> bool:
    values = [
        value
        for by_metric in results.values.values()
        for by_seed in by_metric.get(metric, {}).values()
        for value in by_seed.values()
        if math.isfinite(value)
    ]
    return bool(values) and min(values) > 0


def _rounding(values: NDArray[np.float64], relative: bool) -> float:
    """The least slope that is not rounding: scores are sums in float32."""
    largest = 1.0 if relative else float(np.abs(values).max())
    return float(ROUNDING * largest / max(values.shape[1] - 1, 1))


def _too_few(seeds: int, generations: int) -> str:
    missing = []
    if seeds < LEAST:
        missing.append(f"{LEAST} seeds ({seeds} here)")
    if generations < FEWEST:
        missing.append(f"{FEWEST} generations ({generations} here)")
    return f"whether it levels off takes at least {' and '.join(missing)}" if missing else ""
