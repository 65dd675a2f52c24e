"""Curves over generations with bands; for one-step recipes, a row per arm with error bars.

Sizes are for a printed page: a panel is one column (3.4 inches) wide, with 8-point type.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from collapse_sim import __version__
from collapse_sim.analysis.axes import generations, linear, logarithmic, wide
from collapse_sim.analysis.by_protocol import panels
from collapse_sim.analysis.dots import dots
from collapse_sim.analysis.drawing import OUTLINES, labels, save, short, style, svg_bytes
from collapse_sim.analysis.fonts import cells
from collapse_sim.analysis.looks import Look, looks
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scale import UNBOUNDED
from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.ui import formatting

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 300
_PANEL, _SCREEN_PANEL = (3.4, 2.5), (4.6, 2.9)  # inches
Size = Literal["column", "page"]
WIDTHS: Mapping[Size, float] = {"column": 3.4, "page": 7.0}  # inches
_LETTER = 0.062  # inches, approximate width of an 8-point letter
_LINE = 0.17  # inches, of a line of type
_ACROSS, _UP = 42, 30  # letters that fit in a panel's title, and along its y axis
_FEW = 25  # with more generations, only every few have markers
_LARGEST = 2**16 - 1  # pixels per side, at most, in matplotlib
PAGE: dict[str, Any] = {
    "axes.titlesize": 8,
    "figure.titlesize": 9,
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


def check_suffix(path: Path) -> None:
    """Raises RecipeError for a file that no plot can be written to."""
    if path.suffix.lower() not in SUFFIXES:
        raise RecipeError(f"--plot: {path}: the suffix selects the format; allowed: {', '.join(SUFFIXES)}")


def plot(results: Results, metrics: Sequence[str], path: Path, size: Size | None = None) -> None:
    """Write `figure` to `path` as `write_drawing` does."""
    write_drawing(lambda: figure(results, metrics, size), results, metrics, path)


def write_drawing(draw: Callable[[], Figure], results: Results, metrics: Sequence[str], path: Path) -> None:
    """Write a figure to `path` (.png at 300 dpi, .pdf, .svg), with run, version and date in the file's metadata.

    Raises StoreError if the file cannot be written.
    """
    try:
        with style(user_texts(results, metrics), PAGE):
            notes = "; ".join(f"{metric}: {results.notes[metric]}" for metric in metrics if metric in results.notes)
            metadata = _metadata(results.name, path.suffix.lower(), notes)
            drawing = draw()
            dpi = min(DPI, _LARGEST / max(drawing.get_size_inches()))
            save(drawing, path, dpi=dpi, metadata=metadata)
    except OSError as error:
        raise StoreError(f"{path}: cannot write the plot: {error.strerror or error}; choose another file") from error


def svg(results: Results, metrics: Sequence[str]) -> bytes:
    """`figure` as an SVG file for a web page: letters are outlines, so that it looks the same everywhere."""
    with style(user_texts(results, metrics), PAGE | OUTLINES):
        return svg_bytes(figure(results, metrics, on_screen=True))


def user_texts(results: Results, metrics: Sequence[str]) -> list[str]:
    """All texts from the user that a plot shows."""
    return [results.name, *results.arms, *metrics, *results.units.values(), *results.warnings.values()]


def figure(results: Results, metrics: Sequence[str], size: Size | None = None, *, on_screen: bool = False) -> Figure:
    """One panel per metric: means over seeds by generation with 95 % bands, theory dashed.

    A recipe of one step (generations 0 and 1) has no real curves: its panels have a row per arm with its paired
    difference to the baseline and the published one. With several protocols there is a column for each. `size`: as wide
    as a paper's column, with one panel above the other, or as its page; None: as wide as the panels need. `on_screen`:
    larger panels, with the legend beside them and without the run's name, for a page that names it.
    """
    with style(user_texts(results, metrics), PAGE):
        one_step, groups = results.generations <= 1, panels(results)
        settings = {arm: group.settings.get(arm, {}) for group in groups.values() for arm in group.arms}
        shown = [(metric, protocol) for metric in metrics for protocol in groups]
        columns = len(groups) if len(groups) > 1 else min(2, max(1, len(metrics)))
        columns = 1 if size == "column" else columns
        rows = max(1, math.ceil(len(shown) / columns))
        width, height = _SCREEN_PANEL if on_screen else _PANEL
        if one_step:  # names of arms are to the left, one per line
            longest = max(map(cells, labels(settings).values()))
            width, height = max(width, 2.4 + longest * _LETTER), 0.9 + _LINE * max(len(g.arms) for g in groups.values())
        width = WIDTHS[size] / columns if size else width
        fixed = on_screen and not one_step and len(shown) == 1  # fixed margins take half the time
        drawing = Figure(figsize=(columns * width, rows * height + 2 * _LINE), layout=None if fixed else "constrained")
        FigureCanvasAgg(drawing)
        if not on_screen:
            drawing.suptitle(short(results.name, _ACROSS * columns))
        grid = drawing.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        looks_by_arm = looks(replace(results, arms=tuple(settings), settings=settings))  # the same in all panels
        for axes, (metric, protocol) in zip(grid.flat, shown, strict=False):
            group = groups[protocol]
            axes.set_title(panel_title(group, metric, protocol))
            if one_step:
                dots(axes, group, metric, handles)
            else:
                _curves(axes, group, metric, {arm: looks_by_arm[arm] for arm in group.arms}, handles)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        panels_of = [grid.flat[first : first + len(groups)] for first in range(0, len(shown), len(groups))]
        for row in panels_of if len(groups) > 1 and not one_step else ():
            _align_limits([axes for axes in row if axes.has_data()])
        if handles:
            arm_labels = dict.fromkeys(name for group in groups.values() for name in _labels_with_seeds(group).values())
            arms = [name for name in arm_labels if name in handles]
            ordered = {name: handles[name] for name in arms} | handles
            if fixed:
                _legend_beside(drawing, grid[0, 0], ordered)
            else:
                legend_below(drawing, ordered)
        return drawing


def _curves(axes: Axes, results: Results, metric: str, looks_by_arm: dict[str, Look], handles: dict[str, Any]) -> None:
    heights: list[float] = []
    lows: list[float] = []
    highs: list[float] = []
    bands: list[tuple[str, list[int], list[float], list[float]]] = []
    names = _labels_with_seeds(results)
    for arm, look in looks_by_arm.items():
        scored = results.scored(metric, [arm])
        intervals = [mean for k in scored if (mean := results.mean(arm, metric, k)) is not None]
        if not intervals:
            continue
        means = [interval.mean if interval.finite else math.nan for interval in intervals]
        low = [math.nan if interval.low is None else interval.low for interval in intervals]
        high = [math.nan if interval.high is None else interval.high for interval in intervals]
        (line,) = axes.plot(
            scored,
            means,
            color=look.color,
            linestyle=look.linestyle,
            linewidth=1.2,
            marker=look.marker,
            markersize=3.5,
            markevery=max(1, len(scored) // _FEW * 5),
            clip_on=False,  # markers on a bound are not cut
            zorder=3,
        )
        handles.setdefault(names[arm], line)
        _mark_divergence(axes, results, arm, metric, look, handles)
        bands.append((look.color, scored, low, high))
        heights, lows, highs = heights + means, lows + low, highs + high
    theory = _theory_curves(axes, results, metric, looks_by_arm, handles)
    bounds = results.bounds.get(metric, UNBOUNDED)
    log = wide(heights, bounds)
    for colour, scored, low, high in bands:
        if not all(map(math.isnan, low)):
            ends = [max(value, 1e-300) if log else value for value in low]  # on a logarithmic axis: far below it
            axes.fill_between(scored, ends, high, color=colour, alpha=0.2, linewidth=0)
            seeds = formatting.plural(len(results.seeds), "seed")
            handles.setdefault(f"95 % interval, {seeds}", Patch(color="#808080", alpha=0.3, linewidth=0))
    if log:
        logarithmic(axes, heights + [value for value in theory if value > 0], lows, highs)
    else:
        linear(axes, bounds, heights)
    unit = formatting.plain(results.units.get(metric, ""))
    axes.set_ylabel("\n".join(textwrap.wrap(short(unit, 2 * _UP), _UP)) or short(metric, _UP))
    scored = results.scored(metric)
    generations(axes, min(scored, default=0), max(scored, default=0))


def _labels_with_seeds(results: Results) -> dict[str, str]:
    """{arm: label}, with the number of seeds if it differs from the planned number."""
    by_arm = {}
    for arm, label in labels(results.arms).items():
        numbers = {len(by_seed) for ks in results.values.get(arm, {}).values() for by_seed in ks.values()}
        least, most = min(numbers, default=0), max(numbers, default=0)
        count = formatting.plural(most, "seed") if least == most else f"{least} to {most} seeds"
        by_arm[arm] = label if numbers <= {results.seeds_of(arm)} else f"{label} ({count})"
    return by_arm


def _mark_divergence(axes: Axes, results: Results, arm: str, metric: str, look: Look, handles: dict[str, Any]) -> None:
    """Draw a cross where an arm's curve ends because one of its seeds diverged."""
    first = min(results.diverged.get(arm, {}).values(), default=None)
    before = [] if first is None else [k for k in results.scored(metric, [arm]) if k < first]
    mean = results.mean(arm, metric, before[-1]) if before else None
    if mean is not None and mean.finite:
        (cross,) = axes.plot(
            before[-1], mean.mean, "x", color=look.color, markersize=8, markeredgewidth=1.5, clip_on=False, zorder=4
        )
        handles.setdefault("then diverged", Line2D([], [], color="#404040", linestyle="none", marker="x"))
        cross.set_gid("diverged")


def _theory_curves(
    axes: Axes, results: Results, metric: str, looks_by_arm: dict[str, Look], handles: dict[str, Any]
) -> list[float]:
    """Draw theory dashed, in a darker shade of the arm's colour, so that it is visible on a curve that agrees."""
    last = max(results.scored(metric), default=results.generations)
    drawn: list[float] = []
    for arm, look in looks_by_arm.items():
        values = [results.theory_at(arm, metric, k) for k in range(last + 1)]
        if any(value is not None for value in values):
            heights = [math.nan if value is None else value for value in values]
            shade = [0.45 * part for part in to_rgb(look.color)]
            axes.plot(range(last + 1), heights, color=shade, linestyle=(0, (4, 2)), linewidth=0.8, zorder=3.5)
            handles.setdefault("theory", Line2D([], [], color="#404040", linestyle=(0, (4, 2)), linewidth=0.8))
            drawn += heights
    return drawn


def _align_limits(row: Sequence[Axes]) -> None:
    """Give the panels of one metric the same y limits, if they have the same scale."""
    if len({axes.get_yscale() for axes in row}) == 1:
        limits = [axes.get_ylim() for axes in row]
        for axes in row:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def panel_title(results: Results, metric: str, protocol: str | None, across: int = _ACROSS) -> str:
    """The title of a panel that is `across` letters wide: metric, direction, protocol, and a warning below."""
    better, warning = results.metrics[metric], results.warnings.get(metric)
    direction = "" if better is None else f" ({better} is better)"
    direction += f", {protocol}" if protocol else ""
    name = short(metric, across)
    title = name + direction if len(name + direction) <= across else f"{name}\n{direction.strip(' ,')}"
    return "\n".join([title, *textwrap.wrap(formatting.plain(warning or ""), across)])


def legend_below(drawing: Figure, handles: dict[str, Any]) -> None:
    """Draw the legend below the panels, in as many columns as fit; the figure grows by its lines."""
    width, height = drawing.get_size_inches()
    names = list(handles)
    columns = next((n for n in range(len(names), 1, -1) if _legend_width(names, n) <= width), 1)
    lines = math.ceil(len(names) / columns)
    drawing.set_size_inches(width, height + _LINE * lines)
    balanced_columns = math.ceil(len(names) / lines)  # 5 names in 2 lines: 2 + 2 + 1, not 2 + 1 + 1 + 1
    drawing.legend(handles.values(), names, loc="outside lower center", ncols=balanced_columns)


def _legend_beside(drawing: Figure, axes: Axes, handles: dict[str, Any]) -> None:
    """Draw the legend to the right of the only panel; the figure grows by it."""
    panel, height = drawing.get_size_inches()
    beside, lines = _legend_width(list(handles), 1), axes.get_title().count("\n") + 1
    width, height = panel + beside, max(height + _LINE * (lines - 1), _LINE * (len(handles) + 2))
    drawing.set_size_inches(width, height)
    left = 0.7 + _LINE * (axes.get_ylabel().count("\n") + 1)
    margins = {"left": left / width, "right": (panel - 0.15) / width, "bottom": 3 * _LINE / height}
    drawing.subplots_adjust(**margins, top=1 - (lines + 0.8) * _LINE / height)
    drawing.legend(
        handles.values(),
        list(handles),
        loc="upper left",
        bbox_to_anchor=(panel / width, 1 - 0.5 * _LINE / height),
        borderaxespad=0,
    )


def _legend_width(names: Sequence[str], columns: int) -> float:
    """The approximate width in inches of a legend that is filled column by column."""
    lines = math.ceil(len(names) / columns)
    return sum(0.6 + _LETTER * max(map(cells, names[i : i + lines])) for i in range(0, len(names), lines))


def _metadata(name: str, suffix: str, notes: str) -> dict[str, Any]:
    """Run, program, date and notes, under the keys that each format knows."""
    program, now = f"collapse-sim {__version__}", datetime.now(UTC)
    if suffix == ".png":
        created = now.isoformat(timespec="seconds")
        return {"Title": name, "Software": program, "Creation Time": created, "Description": notes}
    if suffix == ".svg":
        return {"Title": name, "Creator": [program], "Date": now.isoformat(timespec="seconds"), "Description": notes}
    return {"Title": name, "Creator": program, "CreationDate": now, "Subject": notes}
