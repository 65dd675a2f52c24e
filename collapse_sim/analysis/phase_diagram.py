"""Phase diagrams: a metric over two settings as a map of cells, with the line at which collapse begins."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from collapse_sim.analysis.axes import plain_log_ticks, wide
from collapse_sim.analysis.drawing import short, style
from collapse_sim.analysis.numbers import figure as number
from collapse_sim.analysis.onset import Limit, Place, Side, State, states, theory_beyond
from collapse_sim.analysis.over_settings import GENERATION, OverSettings, SettingAxis
from collapse_sim.analysis.over_settings_tables import tested, words
from collapse_sim.analysis.plots import PAGE, WIDTHS, Size, panel_title, user_texts
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scale import UNBOUNDED
from collapse_sim.ui import formatting

_WIDTH = 4.6  # inches of a panel, with its colour bar
_CELL, _LEAST, _MOST = 0.3, 1.7, 3.6  # inches: a cell's height, the least and the greatest height of a map
_MARGINS = 1.35  # inches beside a map and its ticks' labels: the axis's label and the colour bar
_LINE = 0.145  # inches, of a line of the legend
_LETTER = 0.057  # inches, approximate width of a 7-point letter
_TITLE = 12  # letters of a title that fit in an inch
_TEXT = 6.0  # points, of the figures in cells
_TEXT_LETTER, _TEXT_HEIGHT = 0.055, 0.12  # inches, of one of their letters
_TICKS = 10
_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000)
_BLANK: Mapping[str, str] = {"not scored yet": "////", "no such arm": "....", "diverged": "xxxx"}
_COLLAPSED, _SAFE = 1, -1
_RANKS = {"collapsed": _COLLAPSED, "unclear": 0, "not collapsed": _SAFE}
_MAP = {"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True, "hatch.linewidth": 0.5}

Matrix = np.ndarray  # (values of the second setting, values of the first)


def phase_diagram(
    results: Results, metrics: Sequence[str], over: OverSettings, limit: Limit, size: Size | None = None
) -> Figure:
    """One map per metric: the first setting to the right, the second upwards; dark is the collapsed side.

    The thick line separates cells that are significantly beyond the limit from those that are not; the thin one, for a
    stated limit, cells that are significantly on its other side. Between the two lines it is undecided. Both follow the
    edges of cells, because nothing is known between them. The dashed line is where the expected value (theory) crosses
    the limit, interpolated between the centres of cells.
    """
    across, down = over.axes
    texts = [*user_texts(results, metrics), *across.labels(), *down.labels(), across.path, down.path]
    with style(texts, {**PAGE, **_MAP}):
        columns = 1 if size == "column" else min(2, max(1, len(metrics)))
        rows = max(1, math.ceil(len(metrics) / columns))
        width = WIDTHS[size] / columns if size else _WIDTH
        map_height = min(max(_CELL * len(down.values), _LEAST), _MOST)
        drawing = Figure(figsize=(columns * width, rows * (map_height + 0.75) + 0.3), layout="constrained")
        FigureCanvasAgg(drawing)
        drawing.suptitle(short(results.name, 42 * columns))
        grid = drawing.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        beside = _MARGINS + _LETTER * max(map(len, _shortened(down)))
        cell = ((width - beside) / len(across.values), map_height / len(down.values))
        for axes, metric in zip(grid.flat, metrics, strict=False):
            when = "" if over.generation is None else f"generation {over.generation}"
            axes.set_title(panel_title(results, metric, when, int(_TITLE * width)))
            _panel(axes, results, metric, over, limit, cell, handles)
        for axes in grid.flat[len(metrics) :]:
            axes.set_axis_off()
        _legend(drawing, handles)
        return drawing


def boundary(collapsed: Matrix) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The edges between cells that are collapsed (1) and cells that are not (0), as pairs of points; cells are squares
    of side 1 around whole numbers, and those of unknown state are nan. For a map of states (ny, nx)."""
    edges: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for (y, x), state in np.ndenumerate(collapsed):
        if x + 1 < collapsed.shape[1] and abs(state - collapsed[y, x + 1]) == 1:
            edges.append(((x + 0.5, y - 0.5), (x + 0.5, y + 0.5)))
        if y + 1 < collapsed.shape[0] and abs(state - collapsed[y + 1, x]) == 1:
            edges.append(((x - 0.5, y + 0.5), (x + 0.5, y + 0.5)))
    return edges


def _panel(
    axes: Axes,
    results: Results,
    metric: str,
    over: OverSettings,
    limit: Limit,
    cell: tuple[float, float],
    handles: dict[str, Any],
) -> None:
    shown = states(results, metric, tested(over), limit)
    side = limit.side_for(results, metric)
    means = _matrix(over, lambda place: _mean(results, metric, place))
    finite = means[np.isfinite(means)]
    log = wide(finite.tolist(), results.bounds.get(metric, UNBOUNDED))
    colours = colormaps["viridis_r" if side == "above" else "viridis"]
    norm: Normalize = (LogNorm if log else Normalize)(*((finite.min(), finite.max()) if finite.size else (0.0, 1.0)))
    image = axes.imshow(np.ma.masked_invalid(means), cmap=colours, norm=norm, origin="lower", aspect="auto", zorder=1)
    _blanks(axes, results, metric, over, handles)
    _texts(axes, means, cell, image)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, aspect=25)
    if log:
        plain_log_ticks(bar.ax.yaxis)
    own = [mean for place in over.places() if (mean := results.mean(place.arm, metric, place.generation))]
    unit = formatting.plain(results.units.get(metric, ""))
    seeds = formatting.plural(max((mean.n for mean in own), default=0), "seed")
    bar.set_label("\n".join(textwrap.wrap(short(f"mean over {seeds}" + (f", {unit}" if unit else ""), 60), 32)))
    if finite.size and not limit.relative and finite.min() < limit.number < finite.max():
        bar.ax.axhline(limit.number, color="black", linewidth=1.4)
    _onset(axes, shown, over, limit, handles, words(results, metric, over, limit), side)
    _theory(axes, results, metric, over, limit, handles)
    _ticks(axes, over)


def _mean(results: Results, metric: str, place: Place) -> float:
    mean = results.mean(place.arm, metric, place.generation)
    return math.nan if mean is None else mean.mean


def _matrix(over: OverSettings, value: Callable[[Place], float | None]) -> Matrix:
    """(values of the second axis, of the first): nan where there is no arm, or no value."""
    across, down = over.axes
    (line,) = over.lines
    cells = np.full((len(down.values), len(across.values)), np.nan)
    for (y, v), (x, u) in ((a, b) for a in enumerate(down.values) for b in enumerate(across.values)):
        place = line.places.get((u, v))
        own = None if place is None else value(place)
        cells[y, x] = math.nan if own is None else own
    return cells


def _blanks(axes: Axes, results: Results, metric: str, over: OverSettings, handles: dict[str, Any]) -> None:
    """Hatch cells without a figure, by the reason."""
    across, down = over.axes
    (line,) = over.lines
    for (y, v), (x, u) in ((a, b) for a in enumerate(down.values) for b in enumerate(across.values)):
        place = line.places.get((u, v))
        mean = None if place is None else results.mean(place.arm, metric, place.generation)
        if mean is not None and mean.finite:
            continue
        why = "no such arm" if place is None else "not scored yet" if mean is None else "diverged"
        look: dict[str, Any] = {
            "facecolor": "#eeeeee", "edgecolor": "#8a8a8a", "hatch": _BLANK[why], "linewidth": 0.0,
        }  # fmt: skip
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, zorder=1.1, **look))
        handles.setdefault(why, Patch(**look))


def _texts(axes: Axes, means: Matrix, cell: tuple[float, float], image: AxesImage) -> None:
    """The figures in the cells, if they fit."""
    texts = {(x, y): number(mean, 3) for (y, x), mean in np.ndenumerate(means) if math.isfinite(mean)}
    longest = max(map(len, texts.values()), default=0)
    if longest * _TEXT_LETTER > cell[0] or cell[1] < _TEXT_HEIGHT:
        return
    for (x, y), text in texts.items():
        red, green, blue, _ = image.cmap(image.norm(means[y, x]))
        light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        axes.text(x, y, text, ha="center", va="center", fontsize=_TEXT, color="black" if light else "white", zorder=1.5)


def _onset(
    axes: Axes,
    shown: Mapping[Place, State],
    over: OverSettings,
    limit: Limit,
    handles: dict[str, Any],
    rule: str | None,
    side: Side | None,
) -> None:
    """The line around collapsed cells, that around cells that keep a stated limit, and their meaning.

    Generation 0 is not tested where it is itself the limit: it keeps it.
    """
    if rule is None or not shown:
        return
    of_cells = _matrix(
        over, lambda place: _RANKS.get(shown.get(place, "not collapsed" if not place.generation else ""))
    )
    collapsed, safe = (np.where(np.isnan(of_cells), math.nan, of_cells == rank) for rank in (_COLLAPSED, _SAFE))
    if not (collapsed == 1).any() or not (collapsed == 0).any():
        every = "every tested cell is" if (collapsed == 1).any() else "no cell is"
        handles.setdefault(f"{every} {rule}", Patch(alpha=0))
    else:
        _edges(axes, boundary(collapsed), 1.8, "collapse begins")
        sample = Line2D([], [], color="black", linewidth=1.8)
        handles.setdefault(f"collapse begins: on the darker side, cells are {rule}", sample)
    if not limit.default and (safe == 1).any() and (safe == 0).any():
        _edges(axes, boundary(safe), 0.8, "limit kept")
        sample = Line2D([], [], color="black", linewidth=0.8)
        other: Side = "below" if side == "above" else "above"
        label = (
            f"on the lighter side of the thin line, cells are significantly {limit.words(other)}; in between, undecided"
        )
        handles.setdefault(label, sample)


def _edges(axes: Axes, edges: Sequence[Any], width: float, name: str) -> None:
    for colour, extra, layer in (("white", 1.4, 3.9), ("black", 0.0, 4.0)):
        lines = LineCollection(edges, colors=colour, linewidths=width + extra, capstyle="projecting", zorder=layer)
        lines.set_gid(name if colour == "black" else "")
        axes.add_collection(lines)


def _theory(
    axes: Axes, results: Results, metric: str, over: OverSettings, limit: Limit, handles: dict[str, Any]
) -> None:
    beyond = _matrix(over, lambda place: theory_beyond(results, metric, place, limit))
    if min(beyond.shape) < 2 or not (beyond > 0).any() or not (beyond <= 0).any():
        return
    drawn = axes.contour(
        np.ma.masked_invalid(beyond), levels=[0.0], colors="#D55E00", linestyles="dashed", linewidths=1.4, zorder=5
    )
    drawn.set_path_effects([withStroke(linewidth=2.8, foreground="white")])
    sample = Line2D([], [], color="#D55E00", linestyle="dashed", linewidth=1.4)
    handles.setdefault("the expected value (theory) is at that limit", sample)


def _shortened(axis: SettingAxis) -> list[str]:
    return [short(text, 16) for text in axis.labels()]


def _ticks(axes: Axes, over: OverSettings) -> None:
    for axis, name, most in zip(over.axes, ("x", "y"), (_TICKS, 2 * _TICKS), strict=True):
        texts = _shortened(axis)
        step = next((step for step in _STEPS if len(texts) / step <= most), len(texts))
        shown = range(0, len(texts), step)
        chosen = [texts[i] for i in shown]
        tick_axis = axes.xaxis if name == "x" else axes.yaxis
        tick_axis.set_ticks(list(shown), chosen)
        label = axis.path if axis.path == GENERATION or axis.even else f"{axis.path} (not to scale)"
        tick_axis.set_label_text(short(label, 40))
        if name == "x" and sum(map(len, chosen)) > 40:
            axes.tick_params(axis="x", rotation=30)
    axes.tick_params(length=2)


def _legend(drawing: Figure, handles: dict[str, Any]) -> None:
    """Below the maps, one entry below the other, with lines as wide as the figure."""
    if not handles:
        return
    width, height = drawing.get_size_inches()
    letters = int((width - 0.6) / _LETTER)
    names = ["\n".join(textwrap.wrap(name, letters)) for name in handles]
    lines = sum(name.count("\n") + 1 for name in names)
    drawing.set_size_inches(width, height + _LINE * (lines + 1))
    drawing.legend(handles.values(), names, loc="outside lower left", ncols=1, fontsize=7, handlelength=2.2)
