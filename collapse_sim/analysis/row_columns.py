"""Intervals over held-out rows in the tables of `compare`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.text import Text

from collapse_sim.analysis.intervals import Interval
from collapse_sim.analysis.numbers import figure
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_intervals import of_mean

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
