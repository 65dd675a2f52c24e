"""Curves over generations with bands, and for one-step recipes the arms beside each other with error bars.

Colours, markers and line styles are those of the terminal (ui/palette.py). Sizes are those of a printed page: a panel
is one column (3.4 inches) wide, with type of 8 points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from collapse_sim import __version__
from collapse_sim.analysis.intervals import interval, paired
from collapse_sim.analysis.results import Reference, Results
from collapse_sim.errors import StoreError
from collapse_sim.ui.palette import color, linestyle, marker

SUFFIXES = (".png", ".pdf", ".svg")
_PANEL = (3.4, 2.5)  # inches
_LETTER = 0.062  # inches, about, of an 8-point letter
_LINE = 0.17  # inches, of a line of type
_FEW = 25  # with more generations, markers stand at every few only
_DECADES = 2.0  # positive values that span more are drawn on a logarithmic axis
_STYLE: Any = {  # matplotlib's stubs want every key as a literal
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "collapse-sim",
}


def plot(results: Results, metrics: Sequence[str], path: Path) -> None:
    """Write `figure` to `path` (.png at 300 dpi, .pdf, .svg), with run, version and date in the file's metadata.

    Raises StoreError when the file cannot be written.
    """
    try:
        with rc_context(_STYLE):
            notes = "; ".join(f"{metric}: {results.notes[metric]}" for metric in metrics if metric in results.notes)
            metadata = _metadata(results.name, path.suffix.lower(), notes)
            figure(results, metrics).savefig(path, dpi=300, metadata=metadata)
    except OSError as error:
        raise StoreError(f"{path}: cannot write the plot: {error.strerror or error}; choose another file") from error


def figure(results: Results, metrics: Sequence[str]) -> Figure:
    """One panel a metric: means over seeds by generation with 95 % bands, theory dashed.

    A recipe of one step (generations 0 and 1) has no curves to speak of: its panels have the arms one below the other
    with their paired differences to the baseline, published ones beside them.
    """
    with rc_context(_STYLE):
        one_step = results.generations <= 1
        columns = min(2, max(1, len(metrics)))
        rows = max(1, math.ceil(len(metrics) / columns))
        width, height = _PANEL
        if one_step:  # names of arms stand to the left, one a line
            width, height = max(width, 2.4 + max(map(len, results.arms)) * _LETTER), 0.8 + _LINE * len(results.arms)
        drawing = Figure(figsize=(columns * width, rows * height), layout="constrained")
        FigureCanvasAgg(drawing)
        grid = drawing.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        for axes, metric in zip(grid.flat, metrics, strict=False):
            (_dots if one_step else _curves)(axes, results, metric, handles)
        for axes in grid.flat[len(metrics) :]:
            axes.set_axis_off()
        if handles:
            ordered = {arm: handles[arm] for arm in results.arms if arm in handles} | handles
            _legend(drawing, ordered)
        return drawing


def _curves(axes: Axes, results: Results, metric: str, handles: dict[str, Any]) -> None:
    heights: list[float] = []
    for i, arm in enumerate(results.arms):
        scored = results.scored(metric, [arm])
        found = [interval(results.scores(arm, metric, k).values()) for k in scored]
        means = [each.mean if math.isfinite(each.mean) else math.nan for each in found]
        if not scored:
            continue
        heights += means
        (line,) = axes.plot(
            scored,
            means,
            color=color(i),
            linestyle=linestyle(i),
            linewidth=1.2,
            marker=marker(i),
            markersize=3.5,
            markevery=max(1, len(scored) // _FEW * 5),
            label=arm,
        )
        handles.setdefault(arm, line)
        low = [math.nan if each.low is None else each.low for each in found]
        high = [math.nan if each.high is None else each.high for each in found]
        if not all(map(math.isnan, low)):
            axes.fill_between(scored, low, high, color=color(i), alpha=0.2, linewidth=0)
            handles.setdefault(f"95 % interval, {found[-1].n} seeds", Patch(color="#808080", alpha=0.3, linewidth=0))
    _theory_curves(axes, results, metric, handles)
    finite = [mean for mean in heights if math.isfinite(mean)]
    if finite and min(finite) > 0 and math.log10(max(finite) / min(finite)) > _DECADES:
        axes.set_yscale("log")
    axes.set_title(_title(results, metric))
    axes.set_xlabel("generation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _theory_curves(axes: Axes, results: Results, metric: str, handles: dict[str, Any]) -> None:
    """Dashed, without markers, in a darker shade of the arm's colour: seen on top of a curve that agrees."""
    last = max(results.scored(metric), default=results.generations)
    for i, arm in enumerate(results.arms):
        values = [results.theory_at(arm, metric, k) for k in range(last + 1)]
        if any(value is not None for value in values):
            heights = [math.nan if value is None else value for value in values]
            shade = [0.45 * part for part in to_rgb(color(i))]
            axes.plot(
                range(last + 1), heights, color=shade, linestyle=(0, (4, 2)), linewidth=0.8, label=f"{arm}, theory"
            )
            handles.setdefault("theory", Line2D([], [], color="#404040", linestyle=(0, (4, 2)), linewidth=0.8))


def _dots(axes: Axes, results: Results, metric: str, handles: dict[str, Any]) -> None:
    """Each arm's paired difference to the baseline at the last scored generation, as a share of the baseline's mean."""
    generation = max(results.scored(metric), default=0)
    base = results.scores(results.baseline, metric, generation)
    unit = abs(interval(base.values()).mean) / 100 if base else math.nan
    published = results.reference_at(metric, generation)
    for row, arm in enumerate(results.arms):
        found = paired(results.scores(arm, metric, generation), base)
        if found is not None and math.isfinite(found.mean / unit if unit else math.nan):
            bar = None if found.half is None else found.half / unit
            (line, *_) = axes.errorbar(
                found.mean / unit, row, xerr=bar, fmt="o", color=color(0), markersize=3.5, linewidth=1.0, capsize=2
            )
            handles.setdefault(f"mean, 95 % interval, {found.n} seeds", line)
        share = None if published is None else _published_percent(published, arm, results.baseline)
        if share is not None:
            (ring,) = axes.plot(share, row, "D", markersize=4, markerfacecolor="none", color=color(3))
            handles.setdefault("published", ring)
    axes.axvline(0, color="#808080", linewidth=0.8)
    axes.set_yticks(range(len(results.arms)), results.arms)
    axes.set_ylim(len(results.arms) - 0.5, -0.5)
    axes.set_title(_title(results, metric))
    axes.set_xlabel(f"% difference to {results.baseline}\nat generation {generation}")


def _published_percent(published: Reference, arm: str, baseline: str) -> float | None:
    value, base = published.values.get(arm), published.values.get(baseline)
    return None if value is None or not base else 100 * (value - base) / abs(base)


def _title(results: Results, metric: str) -> str:
    better, warning = results.metrics[metric], results.warnings.get(metric)
    title = metric if better is None else f"{metric} ({better} is better)"
    return f"{title}\n{warning}" if warning else title


def _legend(drawing: Figure, handles: dict[str, Any]) -> None:
    """Below the panels, in as many columns as fit; the figure grows by its lines."""
    width, height = drawing.get_size_inches()
    names = list(handles)
    columns = next((n for n in range(len(names), 1, -1) if _legend_width(names, n) <= width), 1)
    lines = math.ceil(len(names) / columns)
    drawing.set_size_inches(width, height + _LINE * lines)
    even = math.ceil(len(names) / lines)  # 5 names in 2 lines: 2 + 2 + 1, not 2 + 1 + 1 + 1
    drawing.legend(handles.values(), names, loc="outside lower center", ncols=even)


def _legend_width(names: Sequence[str], columns: int) -> float:
    """Inches, about, of a legend that is filled column by column."""
    lines = math.ceil(len(names) / columns)
    return sum(0.6 + _LETTER * max(map(len, names[i : i + lines])) for i in range(0, len(names), lines))


def _metadata(name: str, suffix: str, notes: str) -> dict[str, Any]:
    """Run, program, date, and what figures are from, under the keys that each format knows."""
    program, now = f"collapse-sim {__version__}", datetime.now(UTC)
    if suffix == ".png":
        made = now.isoformat(timespec="seconds")
        return {"Title": name, "Software": program, "Creation Time": made, "Description": notes}
    if suffix == ".svg":
        return {"Title": name, "Creator": [program], "Date": now.isoformat(timespec="seconds"), "Description": notes}
    return {"Title": name, "Creator": program, "CreationDate": now, "Subject": notes}
