"""A recipe of one step: the arms one below the other, each with its paired difference to the baseline."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from collapse_sim.analysis.drawing import labels, short
from collapse_sim.analysis.reached import common
from collapse_sim.analysis.results import RecordedReference, Results
from collapse_sim.ui import formatting
from collapse_sim.ui.palette import color


def dots(axes: Axes, results: Results, metric: str, handles: dict[str, Any]) -> None:
    """Differences at the last generation that all arms have, in per cent of the baseline's mean.

    Where that mean may as well be 0, in the metric's own unit. An arm with a fit that diverged has a cross at its name.
    """
    generation = common(results, [metric]) or 0
    baseline = results.baseline
    base = results.mean(baseline, metric, generation)
    shares = base is not None and base.finite and base.excludes_zero
    size = abs(base.mean) / 100 if shares and base is not None else 1.0
    published = results.reference_at(metric, generation)
    names = labels(results.arms)
    ticks = []
    for row, arm in enumerate(results.arms):
        found = results.minus(arm, baseline, metric, generation)
        if found is not None and found.finite:
            ends = (
                None if found.low is None or found.high is None else (found.mean - found.low, found.high - found.mean)
            )
            bar = None if ends is None else [[end / size] for end in ends]
            (line, *_) = axes.errorbar(
                found.mean / size, row, xerr=bar, fmt="o", color=color(0), markersize=3.5, linewidth=1.0, capsize=2
            )
            handles.setdefault(f"mean, 95 % interval, {formatting.plural(found.n, 'seed')}", line)
        apart = None if published is None else _published(published, arm, baseline, in_percent=shares)
        if apart is not None:
            (ring,) = axes.plot(apart, row, "D", markersize=4, markerfacecolor="none", color=color(3))
            handles.setdefault("published", ring)
        lost = any(k <= generation for k in results.diverged.get(arm, {}).values())
        ticks.append(f"{names[arm]} (diverged)" if lost else names[arm])
    axes.axvline(0, color="#808080", linewidth=0.8)
    axes.set_yticks(range(len(results.arms)), ticks)
    axes.set_ylim(len(results.arms) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    unit = results.units.get(metric, "")
    what = f"{'% ' if shares else ''}difference to {short(baseline)}"
    measure = f", {formatting.plain(unit)}" if unit and not shares else ""
    axes.set_xlabel(f"{what}\nat generation {generation}{measure}")


def _published(published: RecordedReference, arm: str, baseline: str, *, in_percent: bool) -> float | None:
    value, base = published.values.get(arm), published.values.get(baseline)
    if value is None or base is None or (in_percent and not base):
        return None
    found = 100 * (value - base) / abs(base) if in_percent else value - base
    return found if math.isfinite(found) else None
