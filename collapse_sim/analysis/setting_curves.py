"""Curves of a metric over one setting at a generation, with 95 % bands: a line for each group of arms."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from collapse_sim.analysis.axes import linear, logarithmic, plain_log_ticks, wide
from collapse_sim.analysis.drawing import labels, short, style
from collapse_sim.analysis.intervals import Interval
from collapse_sim.analysis.looks import Look
from collapse_sim.analysis.onset import Limit, Place, states
from collapse_sim.analysis.over_settings import OverSettings, SettingAxis
from collapse_sim.analysis.over_settings_tables import tested
from collapse_sim.analysis.plots import PAGE, WIDTHS, Size, legend_below, panel_title, user_texts
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scale import UNBOUNDED
from collapse_sim.ui import formatting
from collapse_sim.ui.palette import color, linestyle, marker

_PANEL = (3.4, 2.6)  # inches
_LINE = 0.17  # inches, of a line of type
_UP, _ACROSS = 30, 40  # letters that fit along a panel's sides
_TICKS = 9  # more values than this are not all labelled
_LONGEST = 24  # letters of the name of an arm without the setting
_WITHOUT = ": without the setting"  # of arms that have no value of it
_THEORY: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 0.8}


def setting_curves(
    results: Results, metrics: Sequence[str], over: OverSettings, limit: Limit, size: Size | None = None
) -> Figure:
    """One panel per metric. Arms without the setting are horizontal lines, theory is dashed, and generation 0 (or the
    limit that collapse begins at) is dotted. Collapsed values have filled markers."""
    (axis,) = over.axes
    texts = [*user_texts(results, metrics), *axis.labels(), axis.path, *(line.label for line in over.lines)]
    with style(texts, PAGE):
        columns = 1 if size == "column" else min(2, max(1, len(metrics)))
        rows = max(1, math.ceil(len(metrics) / columns))
        width = WIDTHS[size] / columns if size else _PANEL[0]
        drawing = Figure(figsize=(columns * width, rows * _PANEL[1] + 2 * _LINE), layout="constrained")
        FigureCanvasAgg(drawing)
        drawing.suptitle(short(f"{results.name}, generation {over.generation}", _ACROSS * columns))
        grid = drawing.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        for axes, metric in zip(grid.flat, metrics, strict=False):
            axes.set_title(panel_title(results, metric, None))
            _panel(axes, results, metric, over, limit, handles)
        for axes in grid.flat[len(metrics) :]:
            axes.set_axis_off()
        if handles:
            legend_below(drawing, handles)
        return drawing


def _panel(
    axes: Axes, results: Results, metric: str, over: OverSettings, limit: Limit, handles: dict[str, Any]
) -> None:
    (axis,) = over.axes
    shown = states(results, metric, tested(over), limit)
    names = labels(line.label for line in over.lines)
    positions = {value: i if axis.in_order_only else value for i, value in enumerate(axis.values)}
    means: list[Interval] = []
    theory: list[float] = []
    bands: list[tuple[str, list[float], list[float], list[float]]] = []
    for i, line in enumerate(over.lines):
        look = Look(color(i), marker(i), linestyle(i))
        places = {value: line.places[(value,)] for value in axis.values if (value,) in line.places}
        points = {value: _mean(results, metric, place) for value, place in places.items()}
        xs = [positions[value] for value in points]
        if not any(points.values()):
            continue
        heights = [point.mean if point is not None and point.finite else math.nan for point in points.values()]
        filled = [shown.get(place) == "collapsed" for place in places.values()]
        handles.setdefault(names[line.label], _drawn(axes, xs, heights, filled, look))
        ends = [
            (math.nan, math.nan) if p is None or p.low is None or p.high is None else (p.low, p.high)
            for p in points.values()
        ]
        bands.append((look.color, xs, [low for low, _ in ends], [high for _, high in ends]))
        means += [point for point in points.values() if point is not None]
        expected = [results.theory_at(place.arm, metric, place.generation) for place in places.values()]
        if any(value is not None for value in expected):
            curve = [math.nan if value is None else value for value in expected]
            axes.plot(xs, curve, color=_darker(look.color), zorder=3.5, **_THEORY)
            handles.setdefault("theory", Line2D([], [], color="#404040", **_THEORY))
            theory += curve
    means += _references(axes, results, metric, over, handles)
    _limit_line(axes, results, metric, over, limit, handles)
    _finish(axes, results, metric, means, theory, bands, handles)
    if any(state == "collapsed" for state in shown.values()):
        side = limit.side_for(results, metric)
        assert side is not None
        filled_marker = Line2D([], [], color="#404040", linestyle="none", marker="o", markersize=3.5)
        handles.setdefault(f"filled: collapsed, {limit.words(side, brief=True)}", filled_marker)
    _setting_axis(axes, axis)


def _references(
    axes: Axes, results: Results, metric: str, over: OverSettings, handles: dict[str, Any]
) -> list[Interval]:
    """A horizontal line for each arm without the setting, and its interval at the right edge."""
    means = []
    names = labels(over.others, _LONGEST)
    across = axes.get_yaxis_transform()  # x from 0 to 1
    for i, arm in enumerate(over.others):
        place, colour = over.reference(arm), color(len(over.lines) + i)
        mean = _mean(results, metric, place)
        if mean is None or not mean.finite:
            continue
        look: dict[str, Any] = {"color": colour, "transform": across, "zorder": 2.8}
        (drawn,) = axes.plot([0, 1], [mean.mean] * 2, linestyle=(0, (1, 1.2)), linewidth=1.4, **look)
        axes.plot([0.99 - 0.02 * i] * 2, [_or_nan(mean.low), _or_nan(mean.high)], linewidth=1.4, **look)
        handles.setdefault(names[arm] + _WITHOUT, drawn)
        means.append(mean)
    return means


def _drawn(axes: Axes, xs: Sequence[float], heights: Sequence[float], filled: Sequence[bool], look: Look) -> Line2D:
    """The line, with a marker for each value; hollow unless `filled`. Gives the legend's sample of it."""
    axes.plot(xs, heights, color=look.color, linestyle=look.linestyle, linewidth=1.2, zorder=3)
    for full in (True, False):
        chosen = [height if full == own else math.nan for height, own in zip(heights, filled, strict=True)]
        face = look.color if full else "white"
        axes.plot(
            xs, chosen, color=look.color, linestyle="none", marker=look.marker, markersize=3.8, markerfacecolor=face,
            clip_on=False, zorder=3.2,
        )  # fmt: skip
    (sample,) = axes.plot(
        [], [], color=look.color, linestyle=look.linestyle, linewidth=1.2, marker=look.marker, markersize=3.8,
        markerfacecolor="white",
    )  # fmt: skip
    return sample


def _limit_line(
    axes: Axes, results: Results, metric: str, over: OverSettings, limit: Limit, handles: dict[str, Any]
) -> None:
    """A dotted line at the limit, if it is the same for all arms."""
    firsts = {_mean(results, metric, Place(place.arm, 0)) for place in tested(over)} - {None}
    if not limit.relative:
        height, label = limit.number, f"limit, {limit.number:g}"
    elif len(firsts) == 1 and (mean := firsts.pop()) is not None and mean.finite:
        height, label = (
            limit.number * mean.mean,
            "generation 0" if limit.number == 1 else f"{limit.number:g} x generation 0",
        )
    else:
        return
    drawn = axes.axhline(height, color="#404040", linestyle=":", linewidth=1.0, zorder=2.5)
    handles.setdefault(label, drawn)


def _finish(
    axes: Axes,
    results: Results,
    metric: str,
    means: Sequence[Interval],
    theory: Sequence[float],
    bands: Sequence[tuple[str, list[float], list[float], list[float]]],
    handles: dict[str, Any],
) -> None:
    """The bands, and the vertical axis."""
    heights = [mean.mean for mean in means if mean.finite]
    bounds = results.bounds.get(metric, UNBOUNDED)
    log = wide(heights, bounds)
    for colour, xs, lows, highs in bands:
        if not all(map(math.isnan, lows)):
            ends = [max(low, 1e-300) if log else low for low in lows]  # on a logarithmic axis: far below it
            axes.fill_between(xs, ends, highs, color=colour, alpha=0.2, linewidth=0)
            numbers = sorted({mean.n for mean in means})
            seeds = (
                formatting.plural(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
            )
            handles.setdefault(f"95 % interval, {seeds}", Patch(color="#808080", alpha=0.3, linewidth=0))
    if log:
        every_low = [low for _, _, lows, _ in bands for low in lows]
        every_high = [high for _, _, _, highs in bands for high in highs]
        logarithmic(axes, [*heights, *(value for value in theory if value > 0)], every_low, every_high)
    elif heights:
        linear(axes, bounds, heights)
    unit = formatting.plain(results.units.get(metric, ""))
    axes.set_ylabel("\n".join(textwrap.wrap(short(unit, 2 * _UP), _UP)) or short(metric, _UP))


def _setting_axis(axes: Axes, axis: SettingAxis) -> None:
    note = " (not to scale)" if axis.in_order_only and axis.numeric else ""
    axes.set_xlabel(short(axis.path, _ACROSS - len(note)) + note)
    texts = axis.labels()
    if axis.in_order_only:
        longest = max(map(len, texts))
        crowded = longest * len(texts) > _ACROSS
        axes.set_xticks(
            range(len(texts)),
            [short(text, 20) for text in texts],
            rotation=30 if crowded else 0,
            ha="right" if crowded else "center",
        )
        axes.set_xlim(-0.3, len(texts) - 0.7)
    elif axis.logarithmic:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        if len(texts) <= _TICKS:
            axes.set_xticks(axis.values, texts)
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))


def _mean(results: Results, metric: str, place: Place) -> Interval | None:
    return results.mean(place.arm, metric, place.generation)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _darker(colour: str) -> list[float]:
    return [0.45 * part for part in to_rgb(colour)]
