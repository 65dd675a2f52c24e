"""95 % intervals over held-out rows: how much the figures of the same models would change with other held-out rows.

A score over n rows changes by the mean of n influences (metrics/base.py), so its interval is a Student-t interval
of n values. A mean over seeds has the mean of the influences per row, a difference of arms their difference.
docs/analysis.md compares its coverage with that of a bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from collapse_sim.analysis.intervals import Interval, quantile
from collapse_sim.analysis.numbers import figure
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scale import UNBOUNDED
from collapse_sim.recipe.claims import ArmAt, Expectation, Number, Side

CAVEAT = "decided over held-out rows of one seed: another seed may differ"


def over_rows(mean: float, influence: NDArray[Any]) -> Interval | None:
    """The interval of a score from the influences (n,) of its n rows. None for one row, or if any value is not
    finite."""
    n = len(influence)
    if n < 2 or not math.isfinite(mean) or not np.isfinite(influence).all():
        return None
    se = float(influence.std(ddof=1, dtype=np.float64)) / math.sqrt(n)
    half = quantile(n) * se
    return Interval(n, mean, se, mean - half, mean + half)


def influence_of(
    results: Results, arm: str, metric: str, generation: int, seeds: Sequence[int]
) -> NDArray[np.float64] | None:
    """The influences (n,) on the mean over `seeds`; None if a seed has none, or if several have different splits."""
    source = results.rows.get(arm)
    if source is not None and source.resampled and len(seeds) > 1:
        return None
    total: NDArray[np.float64] | None = None
    for seed in seeds if source else ():
        assert source is not None
        influence = source.influence(metric, generation, seed)
        if influence is None or (total is not None and influence.shape != total.shape):
            return None
        total = influence.astype(np.float64) if total is None else total + influence
    return None if total is None else total / len(seeds)


def of_mean(
    results: Results, arm: str, metric: str, generation: int, seeds: Sequence[int] | None = None
) -> Interval | None:
    """The interval of an arm's mean over all or these seeds, within the metric's bounds. None without row values."""
    scores = results.scores(arm, metric, generation)
    chosen = list(scores) if seeds is None else list(seeds)
    influence = influence_of(results, arm, metric, generation, chosen) if chosen else None
    if influence is None:
        return None
    interval = over_rows(float(np.mean([scores[seed] for seed in chosen])), influence)
    return None if interval is None else interval.within(results.bounds.get(metric, UNBOUNDED))


def of_difference(results: Results, arm: str, other: str, metric: str, generation: int) -> Interval | None:
    """The interval of the mean arm - other over their common seeds. None without values of the same rows."""
    difference = results.paired_difference(arm, other, metric, generation)
    if difference is None or not _same_rows(results, arm, other):
        return None
    other_scores = results.scores(other, metric, generation)
    seeds = [seed for seed in results.scores(arm, metric, generation) if seed in other_scores]
    left, right = (influence_of(results, name, metric, generation, seeds) for name in (arm, other))
    if left is None or right is None or left.shape != right.shape:
        return None
    return over_rows(difference.mean, left - right)


def _same_rows(results: Results, arm: str, other: str) -> bool:
    sources = [results.rows.get(name) for name in (arm, other)]
    return all(sources) and len({source.data for source in sources if source}) == 1


def missing_reason(results: Results) -> str:
    """Why intervals over held-out rows are missing that the run should have, among those read; "" if none is."""
    damaged = {folder: problem for source in results.rows.values() for folder, problem in source.damaged.items()}
    if damaged:
        folders = "; ".join(f"{folder} ({problem})" for folder, problem in list(damaged.items())[:3])
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        return (
            f"no intervals over held-out rows where their values are damaged: {folders}{more}; the run makes them again"
        )
    arms = [arm for arm, source in results.rows.items() if source.store_missing]
    if not arms:
        return ""
    stores = " or ".join(dict.fromkeys(str(place) for arm in arms for place in results.rows[arm].places))
    return f"no intervals over held-out rows: their values are in the run's store, which is not at {stores}"


def verdict_fields(
    expected: Expectation, metric: str, generation: int, results: Results, reason: str, definition: str
) -> Mapping[str, Any] | None:
    """The fields of a verdict on a directional claim in a run of one seed, decided by its held-out rows.

    `reason` and `definition` are the beginnings of these fields. None for other claims, runs of several seeds, and
    scores without values of rows.
    """
    if expected.relation == "=" or len(results.seeds) != 1:
        return None
    left, right = (_side(side, metric, generation, results) for side in (expected.left, expected.right))
    arms = [at.arm for side in (expected.left, expected.right) for at in side.arms]
    if left is None or right is None or not all(_same_rows(results, arm, arms[0]) for arm in arms):
        return None
    influence = left.influence - right.influence
    interval = over_rows(left.value - right.value, influence) if influence.ndim else None
    if interval is None or interval.low is None or interval.high is None:
        return None
    sign = -1 if expected.relation == "<" else 1
    rows_text = f"over {interval.n:,} held-out rows of one seed"
    status, conclusion = _decide(interval.low, interval.high, sign)
    return {
        "status": status,
        "reason": f"{reason}, interval {rows_text} {figure(interval.low)} to {figure(interval.high)}: {conclusion}",
        "definition": f"{definition} {rows_text}, 95 % Student-t interval",
        "low": interval.low,
        "high": interval.high,
        "rows": interval.n,
    }


def _decide(low: float, high: float, sign: int) -> tuple[str, str]:
    if low == high == 0:
        return "fails", "both sides are equal for every row"
    if low <= 0 <= high:
        return "undecided", "contains 0, so these rows do not decide the claim"
    side = "above" if low > 0 else "below"
    return ("holds" if (sign > 0) == (low > 0) else "fails"), f"wholly {side} 0"


class _Value(NamedTuple):
    """One side at the only seed, and the influences of its rows: (n,), or 0 for a number."""

    value: float
    influence: NDArray[Any]


def _side(side: Side, metric: str, generation: int, results: Results) -> _Value | None:
    """The value of a side; None if it has no row values."""
    term = side.term
    if isinstance(term, Number):
        return _Value(side.factor * term.value, np.zeros(()))
    if not isinstance(term, ArmAt):
        return None
    k = generation if term.generation is None else term.generation
    value = results.scores(term.arm, metric, k).get(results.seeds[0])
    influence = influence_of(results, term.arm, metric, k, results.seeds)
    return None if value is None or influence is None else _Value(side.factor * value, side.factor * influence)


HEADER = "± over\nrows"
MARK = "\n± over rows"  # second line of a heading, if means of one seed have these intervals


def in_place_of_seeds(
    results: Results, metric: str, generation: int, means: Mapping[str, Interval]
) -> dict[str, Interval]:
    """Means with intervals over rows, if all are of one seed and so have no interval over seeds; otherwise {}."""
    if any(mean.n > 1 for mean in means.values()):
        return {}
    over_rows_by_arm = {arm: of_mean(results, arm, metric, generation) for arm in means}
    if not any(over_rows_by_arm.values()):
        return {}
    return {arm: over_rows_by_arm[arm] or mean for arm, mean in means.items()}


def half_widths(intervals: Sequence[Interval | None]) -> list[str | None]:
    """The half-widths of intervals, to two significant digits."""
    return [
        None if interval is None or interval.half is None else f"± {figure(interval.half, 2)}" for interval in intervals
    ]


def note(intervals: Iterable[Interval | None]) -> list[Text]:
    """A note on the meaning of intervals over rows; [] if there is none."""
    counts = sorted({interval.n for interval in intervals if interval is not None})
    if not counts:
        return []
    rows = " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))
    text = f"± over rows: 95 % intervals of these models on other held-out rows ({rows} here), not of other seeds"
    return [Text(text, "dim")]
