"""Sampled points over generations: a row per arm, a column per generation, real rows in grey behind every cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from collapse_sim.analysis.drawing import labels, save, style
from collapse_sim.analysis.fonts import cells
from collapse_sim.ui.palette import color

Points = NDArray[np.float64]

SHOWN = 1000  # rows per cell, of the samples and of the real data
COLUMNS = 8  # generations at most
_CELL, _GAP = 1.45, 0.08  # inches
_ABOVE, _BELOW, _TICKS, _LETTER = 0.3, 0.55, 0.4, 0.07  # inches: headings, ticks and note, ticks, a letter
_MARGIN = 0.2  # margin around the real rows, as a share of their range
_DOT = 1.6  # points: size of one dot of 1,000
_REAL, _INK = "#c8c8c8", "#505050"
_STYLE = {"axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5}


def columns(last: int) -> list[int]:
    """The shown generations of 0..last: all, or `COLUMNS` of them, evenly spaced, including the first and the last."""
    if last < COLUMNS:
        return list(range(last + 1))
    return [round(i * last / (COLUMNS - 1)) for i in range(COLUMNS)]


def points_by_generations(samples: Mapping[str, Mapping[int, Points]], real: Points, path: Path, note: str) -> None:
    """Write one picture. `samples[arm][generation]` and `real` are (n, d); the first `SHOWN` rows are drawn.

    d = 1: histograms. d > 2: the first two coordinates. All cells have the same axes, around the real rows' range;
    the share of samples outside of them is written in the cell. `note` is printed below. Raises StoreError if the file
    cannot be written.
    """
    generations = sorted({k for by_generation in samples.values() for k in by_generation})
    _write(samples, {k: f"generation {k}" for k in generations}, real, path, note)


def points_by_frames(samples: Mapping[str, Points], real: Points, path: Path, note: str) -> None:
    """The same for one generation, with a column per point in time between pure noise and finished samples.

    `samples[arm]` is (frames, n, d), equally spaced in time.
    """
    last = max(map(len, samples.values())) - 1
    percents = {i: f"{round(100 * i / last)} %" for i in range(last + 1)}
    frames = {arm: dict(enumerate(moments)) for arm, moments in samples.items()}
    _write(frames, {**percents, 0: "noise", last: "samples"}, real, path, note)


def _write(
    samples: Mapping[str, Mapping[int, Points]], headings: Mapping[int, str], real: Points, path: Path, note: str
) -> None:
    with style(samples, _STYLE):
        save(_figure(samples, headings, real[:SHOWN], note), path, dpi=120)


def _figure(
    samples: Mapping[str, Mapping[int, Points]], headings: Mapping[int, str], real: Points, note: str
) -> Figure:
    rows, across = len(samples), len(headings)
    names = labels(samples)
    left = _TICKS + _LETTER * max(map(cells, names.values())) + _GAP
    width = left + across * (_CELL + _GAP)
    height = _ABOVE + rows * (_CELL + _GAP) - _GAP + _BELOW
    drawing = Figure(figsize=(width, height))
    FigureCanvasAgg(drawing)
    grid = drawing.subplots(rows, across, squeeze=False)  # shared axes: each visits all others again and again
    drawing.subplots_adjust(  # set explicitly: an automatic layout takes as long as the drawing itself
        left=left / width,
        right=1 - _GAP / width,
        top=1 - _ABOVE / height,
        bottom=_BELOW / height,
        wspace=_GAP / _CELL,
        hspace=_GAP / _CELL,
    )
    draw = _histogram if real.shape[1] == 1 else _scatter
    low, high = _limits(real)
    for i, (arm, by_generation) in enumerate(samples.items()):
        grid[i, 0].text(-_TICKS / _CELL, 0.5, names[arm], transform=grid[i, 0].transAxes, ha="right", va="center")
        for axes, k in zip(grid[i], headings, strict=True):
            if k in by_generation:
                draw(axes, by_generation[k][:SHOWN], real, color(i))
                _write_share_outside(axes, by_generation[k][:SHOWN], low, high)
    for axes, heading in zip(grid[0], headings.values(), strict=True):
        axes.set_title(heading, fontsize=8)
    for axes in grid.flat:
        axes.set_xlim(low[0], high[0])
        axes.xaxis.set_major_locator(MaxNLocator(3))
        if real.shape[1] > 1:
            axes.set_ylim(low[1], high[1])
            axes.yaxis.set_major_locator(MaxNLocator(3))
        else:
            axes.set_ylim(0, _highest_bar(real))
            axes.set_yticks([])
        axes.label_outer()
    drawing.text(_GAP / width, _GAP / height, note, fontsize=7, color=_INK)
    return drawing


def _limits(real: Points) -> tuple[Points, Points]:
    """The shown range of the first two coordinates, (2,) each; both have the same length, so cells are squares."""
    low, high = real[:, :2].min(0), real[:, :2].max(0)
    half = (0.5 + _MARGIN) * max(float((high - low).max()), 1e-12)
    middle = (low + high) / 2
    return middle - half, middle + half


def _scatter(axes: Axes, samples: Points, real: Points, colour: str) -> None:
    for rows, shade, alpha in ((real, _REAL, 1.0), (samples, colour, 0.6)):
        size = _DOT * (1000 / len(rows)) ** 0.25
        axes.plot(
            rows[:, 0],
            rows[:, 1],
            linestyle="none",
            marker="o",
            markeredgewidth=0,
            markersize=size,
            color=shade,
            alpha=alpha,
        )


def _histogram(axes: Axes, samples: Points, real: Points, colour: str) -> None:
    edges = _edges(real)
    looks: tuple[dict[str, Any], ...] = ({"fill": True, "color": _REAL}, {"color": colour, "linewidth": 1.0})
    for rows, look in zip((real, samples), looks, strict=True):
        axes.stairs(np.histogram(rows[:, 0], edges)[0] / (len(rows) * (edges[1] - edges[0])), edges, **look)


def _edges(real: Points) -> Points:
    low, high = _limits(real)
    bins = math.ceil((1 + 2 * _MARGIN) * 2 * len(real) ** (1 / 3))  # twice the cube root over the real rows' range
    return np.linspace(low[0], high[0], bins + 1)


def _highest_bar(real: Points) -> float:
    """The height of histograms: the peak of a collapsed arm is cut off."""
    edges = _edges(real)
    return 2.5 * float(np.histogram(real[:, 0], edges)[0].max()) / (len(real) * float(edges[1] - edges[0]))


def _write_share_outside(axes: Axes, samples: Points, low: Points, high: Points) -> None:
    shown = samples[:, :2]
    outside = float((~((shown >= low) & (shown <= high)).all(1)).mean())
    if outside > 0:
        text = f"{100 * outside:.0f} % outside" if outside >= 0.01 else "< 1 % outside"
        box: Any = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
        axes.text(0.97, 0.97, text, transform=axes.transAxes, fontsize=6, ha="right", va="top", color=_INK, bbox=box)
