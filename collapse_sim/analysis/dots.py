"""Plots of one-step recipes: a row per arm with its paired difference to the baseline."""

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
    """Draw differences at the last generation that all arms have, in per cent of the baseline's mean.

    If that mean does not differ significantly from 0, they are in the metric's own unit. Arms with a diverged fit are
    marked at their name.
    """
    generation = common(results, [metric]) or 0
    baseline = results.baseline
    baseline_mean = results.mean(baseline, metric, generation)
    in_percent = baseline_mean is not None and baseline_mean.finite and baseline_mean.excludes_zero
    size = abs(baseline_mean.mean) / 100 if in_percent and baseline_mean is not None else 1.0
    published = results.reference_at(metric, generation)
    names = labels(results.arms)
    ticks = []
    for row, arm in enumerate(results.arms):
        difference = results.paired_difference(arm, baseline, metric, generation)
        if difference is not None and difference.finite:
            ends = (
                None
                if difference.low is None or difference.high is None
                else (difference.mean - difference.low, difference.high - difference.mean)
            )
            bar = None if ends is None else [[end / size] for end in ends]
            (line, *_) = axes.errorbar(
                difference.mean / size, row, xerr=bar, fmt="o", color=color(0), markersize=3.5, linewidth=1.0, capsize=2
            )
            handles.setdefault(f"mean, 95 % interval, {formatting.plural(difference.n, 'seed')}", line)
        published_difference = (
            None if published is None else _published(published, arm, baseline, in_percent=in_percent)
        )
        if published_difference is not None:
            (ring,) = axes.plot(published_difference, row, "D", markersize=4, markerfacecolor="none", color=color(3))
            handles.setdefault("published", ring)
        diverged = any(k <= generation for k in results.diverged.get(arm, {}).values())
        ticks.append(f"{names[arm]} (diverged)" if diverged else names[arm])
    axes.axvline(0, color="#808080", linewidth=0.8)
    axes.set_yticks(range(len(results.arms)), ticks)
    axes.set_ylim(len(results.arms) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    unit = results.units.get(metric, "")
    difference_label = f"{'% ' if in_percent else ''}difference to {short(baseline)}"
    unit_label = f", {formatting.plain(unit)}" if unit and not in_percent else ""
    axes.set_xlabel(f"{difference_label}\nat generation {generation}{unit_label}")


def _published(published: RecordedReference, arm: str, baseline: str, *, in_percent: bool) -> float | None:
    value, base = published.values.get(arm), published.values.get(baseline)
    if value is None or base is None or (in_percent and not base):
        return None
    difference = 100 * (value - base) / abs(base) if in_percent else value - base
    return difference if math.isfinite(difference) else None
