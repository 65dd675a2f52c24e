"""Values of single texts over generations, such as their perplexities: a panel per arm, a histogram per generation.

In one coordinate system, as in figure 8 of the KD paper, many histograms would hide each other, so they are drawn one
below the other, with the same bins. Each fills its line: position and width can be compared, heights cannot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from collapse_sim.analysis.axes import plain_log_ticks
from collapse_sim.analysis.drawing import labels, save, short, style
from collapse_sim.analysis.numbers import figure
from collapse_sim.ui.palette import color

Values = NDArray[np.float64]

SHOWN = 10  # generations at most
BINS = 48
_ACROSS = 3  # panels side by side
_PANEL = 3.0  # inches, the width of one
_ROW, _ABOVE, _BELOW = 0.32, 0.3, 0.5  # inches: height of a histogram, of a panel's title, of its axis
_FILLED = 0.85  # share of its line that a histogram's highest bin fills
_TAILS = 0.1  # per cent of all values at each end that the axis need not show
_INK = "#505050"
_TITLE = 32  # letters of a name above a panel
_STYLE = {"axes.linewidth": 0.5, "xtick.major.width": 0.5, "xtick.minor.width": 0.4}


def generations_shown(values: Mapping[str, Mapping[int, Values]]) -> list[int]:
    """All generations, or `SHOWN` of them, evenly spaced, including the first and the last."""
    generations = sorted({k for by_generation in values.values() for k in by_generation})
    if len(generations) <= SHOWN:
        return generations
    return [generations[round(i * (len(generations) - 1) / (SHOWN - 1))] for i in range(SHOWN)]


def value_histograms(values: Mapping[str, Mapping[int, Values]], title: str, label: str, path: Path, note: str) -> None:
    """Write one picture of `values[arm][generation]`, (n,) positive numbers, on one logarithmic axis for all panels.

    A line marks the median of every histogram. Beside it are its value and the number of values that are not shown:
    those that are not positive and finite, and the outermost 0.1 % at each end if they are far away.
    `label` is the label of the axis; `note` is printed below. Raises StoreError if the file cannot be written.
    """
    with style([title, label, *values], _STYLE):
        save(_figure(values, title, label, note), path, dpi=150)


def _figure(values: Mapping[str, Mapping[int, Values]], title: str, label: str, note: str) -> Figure:
    generations = generations_shown(values)
    down = math.ceil(len(values) / _ACROSS)
    across = math.ceil(len(values) / down)
    panel_height = _ABOVE + _ROW * len(generations) + _BELOW
    foot_height = 0.2  # inches
    width, height = across * _PANEL, 0.3 + down * panel_height + foot_height
    drawing = Figure(figsize=(width, height))
    FigureCanvasAgg(drawing)
    drawing.text(0.1 / width, 1 - 0.1 / height, short(title), fontsize=9, va="top")
    drawing.text(0.1 / width, 0.07 / height, note, fontsize=7, color=_INK)
    edges, names = _edges(values, generations), labels(values, _TITLE)
    for i, (arm, by_generation) in enumerate(values.items()):
        row, column = divmod(i, across)
        bottom = foot_height + (down - 1 - row) * panel_height + _BELOW
        box = (column * _PANEL + 0.3, bottom, _PANEL - 0.95, panel_height - _ABOVE - _BELOW)
        axes = drawing.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.set_title(names[arm], fontsize=8, loc="left", color=color(i))
        for place, k in enumerate(generations):
            if k in by_generation:
                _line(axes, by_generation[k], edges, -place, color(i))
        _format_axes(axes, generations, edges, label)
    return drawing


def _line(axes: Axes, values: Values, edges: Values, base: int, colour: str) -> None:
    """Draw one generation's histogram with its median."""
    drawable = _drawable(values)
    counts = np.histogram(drawable, edges)[0]
    if counts.any():
        axes.stairs(base + _FILLED * counts / counts.max(), edges, baseline=base, fill=True, color=colour, alpha=0.65)
    axes.axhline(base, color=_INK, linewidth=0.4)
    texts = [""]
    if len(drawable):
        median = float(np.median(drawable))
        axes.vlines(median, base, base + _FILLED, color="black", linewidth=1.2)
        texts = [figure(median, 3)]
    if counts.sum() < len(values):
        texts.append(f"{len(values) - counts.sum():,} not shown")
    texts += [] if len(values) else ["no texts"]
    axes.text(
        1.03, base + 0.12, "\n".join(texts), transform=axes.get_yaxis_transform(), fontsize=6, va="bottom", color=_INK
    )


def _format_axes(axes: Axes, generations: list[int], edges: Values, label: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-len(generations) + 1, 1)
    axes.set_yticks([-place for place in range(len(generations))], [str(k) for k in generations])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(short(label))
    axes.text(1.03, 1.0, "median", transform=axes.transAxes, fontsize=6, va="bottom", color=_INK)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    decades = math.log10(edges[-1] / edges[0])
    if decades >= 2:
        plain_log_ticks(axes.xaxis)
        return
    marks = [n * 10.0**p for p in range(-12, 16) for n in ((1, 2, 5) if decades > 0.7 else range(1, 10))]
    inside = [mark for mark in marks if edges[0] <= mark <= edges[-1]]
    if len(inside) < 2:
        axes.xaxis.set_major_locator(LogLocator(subs="all"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        return
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(inside, [f"{mark:,.15g}" for mark in inside])


def _drawable(values: Values) -> Values:
    """The values that have a logarithm."""
    return values[np.isfinite(values) & (values > 0)]


def _edges(values: Mapping[str, Mapping[int, Values]], generations: list[int]) -> Values:
    """Bin edges in equal steps of the logarithm over all values, without distant outliers."""
    parts = [_drawable(ks[k]) for ks in values.values() for k in generations if k in ks]
    logs = np.log(np.concatenate(parts)) if parts else np.zeros(0)
    if not len(logs):
        return np.geomspace(1.0, 10.0, BINS + 1)
    low, high = np.percentile(logs, [_TAILS, 100 - _TAILS])
    margin = max(0.25 * (high - low), 0.05)
    low, high = max(low - margin, float(logs.min()) - 0.02), min(high + margin, float(logs.max()) + 0.02)
    if high - low < 0.1:
        low, high = low - 0.05, high + 0.05
    return np.exp(np.linspace(low, high, BINS + 1))
