"""95 % intervals over held-out rows: how far other held-out rows would have moved the figures of these very models.

A score over n rows moves by the mean of n influences (metrics/influence.py), so that its interval is a Student-t
interval of n values, and a mean over seeds or a difference of arms has the mean or the difference of influences, row by
row. docs/analysis.md has its coverage beside that of a bootstrap.
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
    """The interval of a score by the influences (n,) of its rows: n is theirs. None for one row, or where one is not
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
    """That of the mean over `seeds`, (n,); None where a seed has none, or where several have splits of their own."""
    source = results.rows.get(arm)
    if source is not None and source.resampled and len(seeds) > 1:
        return None
    total: NDArray[np.float64] | None = None
    for seed in seeds if source else ():
        assert source is not None
        one = source.influence(metric, generation, seed)
        if one is None or (total is not None and one.shape != total.shape):
            return None
        total = one.astype(np.float64) if total is None else total + one
    return None if total is None else total / len(seeds)


def of_mean(
    results: Results, arm: str, metric: str, generation: int, seeds: Sequence[int] | None = None
) -> Interval | None:
    """Of an arm's mean over its seeds, or over these, within the metric's bounds. None without values of rows."""
    scores = results.scores(arm, metric, generation)
    chosen = list(scores) if seeds is None else list(seeds)
    influence = influence_of(results, arm, metric, generation, chosen) if chosen else None
    if influence is None:
        return None
    found = over_rows(float(np.mean([scores[seed] for seed in chosen])), influence)
    return None if found is None else found.within(results.bounds.get(metric, UNBOUNDED))


def of_difference(results: Results, arm: str, other: str, metric: str, generation: int) -> Interval | None:
    """Of the mean of arm - other over the seeds that both have, row by row. None without values of the same rows."""
    minus = results.minus(arm, other, metric, generation)
    if minus is None or not _same_rows(results, arm, other):
        return None
    theirs = results.scores(other, metric, generation)
    seeds = [seed for seed in results.scores(arm, metric, generation) if seed in theirs]
    left, right = (influence_of(results, of, metric, generation, seeds) for of in (arm, other))
    if left is None or right is None or left.shape != right.shape:
        return None
    return over_rows(minus.mean, left - right)


def _same_rows(results: Results, arm: str, other: str) -> bool:
    sources = [results.rows.get(name) for name in (arm, other)]
    return all(sources) and len({source.data for source in sources if source}) == 1


def lost(results: Results) -> str:
    """Why intervals over held-out rows are missing that the run could have: "" where none is. Of what was read."""
    damaged = {folder: why for source in results.rows.values() for folder, why in source.damaged.items()}
    if damaged:
        named = "; ".join(f"{folder} ({why})" for folder, why in list(damaged.items())[:3])
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        return (
            f"no intervals over held-out rows where their values are damaged: {named}{more}; the run makes them again"
        )
    arms = [arm for arm, source in results.rows.items() if source.lost]
    if not arms:
        return ""
    places = " or ".join(dict.fromkeys(str(place) for arm in arms for place in results.rows[arm].places))
    return f"no intervals over held-out rows: their values are in the run's store, which is not at {places}"


def decided(
    expected: Expectation, metric: str, generation: int, results: Results, reason: str, definition: str
) -> Mapping[str, Any] | None:
    """What becomes of a verdict on a directional claim in a run of one seed, by its held-out rows: fields of it.

    `reason` and `definition` are what the verdict says of both sides; the rest is put behind. None for other claims,
    runs of more seeds, and scores without values of rows.
    """
    if expected.relation == "=" or len(results.seeds) != 1:
        return None
    left, right = (_side(side, metric, generation, results) for side in (expected.left, expected.right))
    arms = [at.arm for side in (expected.left, expected.right) for at in side.arms]
    if left is None or right is None or not all(_same_rows(results, arm, arms[0]) for arm in arms):
        return None
    influence = left.influence - right.influence
    found = over_rows(left.value - right.value, influence) if influence.ndim else None
    if found is None or found.low is None or found.high is None:
        return None
    sign = -1 if expected.relation == "<" else 1
    rows = f"over {found.n:,} held-out rows of one seed"
    status, says = _judged(found.low, found.high, sign)
    return {
        "status": status,
        "reason": f"{reason}, interval {rows} {figure(found.low)} to {figure(found.high)}: {says}",
        "definition": f"{definition} {rows}, 95 % Student-t interval",
        "low": found.low,
        "high": found.high,
        "rows": found.n,
    }


def _judged(low: float, high: float, sign: int) -> tuple[str, str]:
    if low == high == 0:
        return "fails", "both sides are equal for every row"
    if low <= 0 <= high:
        return "undecided", "contains 0, so these rows do not tell"
    side = "above" if low > 0 else "below"
    return ("holds" if (sign > 0) == (low > 0) else "fails"), f"wholly {side} 0"


class _Value(NamedTuple):
    """One side at the only seed, and how its rows move it: (n,), or 0 of what has no rows."""

    value: float
    influence: NDArray[Any]


def _side(side: Side, metric: str, generation: int, results: Results) -> _Value | None:
    """None for a side that rows say nothing of."""
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
MARK = "\n± over rows"  # below a heading, where means of one seed have these intervals


def instead(results: Results, metric: str, generation: int, means: Mapping[str, Interval]) -> dict[str, Interval]:
    """Means with intervals over rows, where all are of one seed and so have none over seeds; {} else."""
    if any(mean.n > 1 for mean in means.values()):
        return {}
    found = {arm: of_mean(results, arm, metric, generation) for arm in means}
    if not any(found.values()):
        return {}
    return {arm: found[arm] or mean for arm, mean in means.items()}


def halves(found: Sequence[Interval | None]) -> list[str | None]:
    """Half-widths of intervals, to two digits."""
    return [None if one is None or one.half is None else f"± {figure(one.half, 2)}" for one in found]


def note(found: Iterable[Interval | None]) -> list[Text]:
    """What an interval over rows means; nothing where there is none."""
    counts = sorted({one.n for one in found if one is not None})
    if not counts:
        return []
    rows = " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))
    said = f"± over rows: 95 % intervals of these models on other held-out rows ({rows} here), not of other seeds"
    return [Text(said, "dim")]
