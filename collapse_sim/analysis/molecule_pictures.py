"""Conformations of a few molecules over generations: a row per arm, a column per generation, real ones to the left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from collapse_sim.analysis.drawing import labels, save, style
from collapse_sim.analysis.fonts import cells
from collapse_sim.ui.palette import COLORS

SHOWN = 4  # molecules in a cell, two by two
_CELL, _GAP = 1.9, 0.08  # inches
_ABOVE, _LETTER = 0.3, 0.07  # inches: headings, a letter
_LINE, _SMALL = 0.14, 0.06  # inches: a line of the note, and a letter of it
_MARGIN = 1.2  # Å around a molecule
_BOND, _INK, _FRAME = "#505050", "#505050", "#d8d8d8"
_ELEMENTS = {1: "#c8c8c8", 6: "#303030", 7: COLORS[0], 8: COLORS[3], 15: COLORS[4], 16: COLORS[1],
             9: COLORS[2], 17: COLORS[2], 35: COLORS[2], 53: COLORS[2]}  # fmt: skip
_OTHER = COLORS[5]
LEGEND = "Carbon black, nitrogen blue, oxygen vermilion, sulfur orange, phosphorus pink, halogens green, hydrogen grey."


class Drawn(NamedTuple):
    """Conformations of m molecules."""

    positions: np.ndarray  # (m, A, 3), Å
    atoms: np.ndarray  # (m, A): atomic numbers, 0: no atom
    bonds: np.ndarray  # (m, A, A): not 0 between bonded atoms


def conformations_by_generations(
    samples: Mapping[str, Mapping[int, Drawn]], real: Mapping[str, Drawn], path: Path, note: str
) -> None:
    """Write one picture. `samples[arm][generation]` are samples made for the graphs of `real[arm]`, the first `SHOWN`
    are drawn.

    Real conformations are seen along the direction in which they are thinnest; a sample is turned, or mirrored, so that
    it is as near as possible to the real one. What is outside of its square is cut off. Raises StoreError if the file
    cannot be written.
    """
    with style(samples):
        save(_figure(samples, real, note), path, dpi=120)


def _figure(samples: Mapping[str, Mapping[int, Drawn]], real: Mapping[str, Drawn], note: str) -> Figure:
    generations = sorted({k for by_generation in samples.values() for k in by_generation})
    rows, across = len(samples), 1 + len(generations)
    names = labels(samples)
    left = _GAP + _LETTER * max(map(cells, names.values())) + _GAP
    width = left + across * (_CELL + _GAP)
    lines = wrap(note, int((width - 2 * _GAP) / _SMALL))
    below = (len(lines) + 1) * _LINE
    height = _ABOVE + rows * (_CELL + _GAP) - _GAP + below
    drawing = Figure(figsize=(width, height))
    FigureCanvasAgg(drawing)
    grid = drawing.subplots(rows, across, squeeze=False)
    drawing.subplots_adjust(
        left=left / width,
        right=1 - _GAP / width,
        top=1 - _ABOVE / height,
        bottom=below / height,
        wspace=_GAP / _CELL,
        hspace=_GAP / _CELL,
    )
    upright = {arm: [flattest(*one) for one in _each(drawn)] for arm, drawn in real.items()}
    side = 2 * (_MARGIN + max(float(np.abs(x[:, :2]).max()) for each in upright.values() for x in each))
    for i, (arm, by_generation) in enumerate(samples.items()):
        grid[i, 0].text(-_GAP / _CELL, 0.5, names[arm], transform=grid[i, 0].transAxes, ha="right", va="center")
        _draw(grid[i, 0], upright[arm], real[arm], side)
        for axes, k in zip(grid[i, 1:], generations, strict=True):
            drawn = by_generation.get(k)
            turned = [] if drawn is None else _turned(drawn, real[arm], upright[arm])
            _draw(axes, turned, drawn or real[arm], side)
    for axes, heading in zip(grid[0], ("real", *(f"generation {k}" for k in generations)), strict=True):
        axes.set_title(heading, fontsize=8)
    drawing.text(_GAP / width, _GAP / height, "\n".join(lines), fontsize=7, color=_INK, va="bottom")
    return drawing


def _each(drawn: Drawn) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(drawn.positions[:SHOWN], drawn.atoms[:SHOWN], strict=True))


def flattest(positions: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """(A, 3) -> (A, 3): centred and turned, so that the last coordinate has the smallest variance, the first the
    largest."""
    mask = atoms > 0
    x = positions.astype(np.float64) - positions[mask].mean(0)
    _, _, axes = np.linalg.svd(x[mask])
    turned: np.ndarray = x @ axes.T
    return turned


def nearest_turn(positions: np.ndarray, onto: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """(A, 3) -> (A, 3): centred and turned or mirrored to the least squared distance from `onto` (orthogonal
    Procrustes)."""
    mask = atoms > 0
    x = positions.astype(np.float64) - positions[mask].mean(0)
    u, _, v = np.linalg.svd(x[mask].T @ onto[mask])
    turned: np.ndarray = x @ (u @ v)
    return turned


def _turned(drawn: Drawn, real: Drawn, upright: list[np.ndarray]) -> list[np.ndarray]:
    """Samples as they are drawn; one of another molecule than the real one is turned by itself."""
    return [
        nearest_turn(x, onto, atoms) if np.array_equal(atoms, own) else flattest(x, atoms)
        for (x, atoms), own, onto in zip(_each(drawn), real.atoms, upright, strict=False)
    ]


def _draw(axes: Axes, turned: list[np.ndarray], drawn: Drawn, side: float) -> None:
    axes.set_xlim(0, 2 * side)
    axes.set_ylim(0, 2 * side)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_FRAME)
    for place, (x, atoms, bonds) in enumerate(zip(turned, drawn.atoms, drawn.bonds, strict=False)):
        corner = np.array([place % 2, 1 - place // 2]) * side
        square = Rectangle((corner[0], corner[1]), side, side, transform=axes.transData)
        flat = x[:, :2] + corner + side / 2
        ends = [(flat[i], flat[j]) for i, j in zip(*np.nonzero(np.triu(bonds)), strict=True)]
        lines = LineCollection(ends, colors=_BOND, linewidths=0.9, zorder=1)
        axes.add_collection(lines)
        lines.set_clip_path(square)
        order = np.flatnonzero(atoms > 0)
        order = order[np.argsort(x[order, 2])]  # nearer atoms are drawn over farther ones
        dots = axes.scatter(
            flat[order, 0],
            flat[order, 1],
            s=[5.0 if atoms[i] == 1 else 11.0 for i in order],
            c=[_ELEMENTS.get(int(atoms[i]), _OTHER) for i in order],
            linewidths=0,
            zorder=2,
        )
        dots.set_clip_path(square)
