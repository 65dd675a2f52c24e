"""The loss curve of the current or last fit."""

from __future__ import annotations

import math

from rich.text import Text

from collapse_sim.ui import formatting, palette
from collapse_sim.ui.state import Curve, State
from collapse_sim.ui.symbols import Symbols

WIDEST = 120  # columns


def curve(state: State, width: int, height: int, symbols: Symbols) -> list[Text]:
    """A heading and `height` - 1 lines of columns, lowest loss at the bottom; [] if there is no loss to draw yet.

    The axis is logarithmic if the largest loss is over 30 times the smallest, like that of sparklines.
    """
    state_curve = state.curve
    points = [(done, loss) for done, loss in state_curve.losses if math.isfinite(loss)] if state_curve else []
    if state_curve is None or not points or height < 3 or width < 30:
        return []
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    log = low > 0 and high > 30 * low
    labels = [formatting.value(high), formatting.value(low)]
    margin = max(map(len, labels))
    columns = _columns(points, min(width, WIDEST) - margin - 1, state_curve.total)
    rows, levels = height - 1, len(symbols.spark)
    lines = [Text(_heading(state, state_curve, log, symbols), style="dim")]
    for row in range(rows):
        label = labels[0] if row == 0 else labels[1] if row == rows - 1 else ""
        line = Text(label.rjust(margin) + " ", style="dim")
        levels_below = (rows - 1 - row) * levels  # levels below this row
        drawn = ""
        for loss in columns:
            level = 0 if loss is None else 1 + _level(loss, low, high, rows * levels - 1, log)
            drawn += " " if level <= levels_below else symbols.spark[min(level - levels_below, levels) - 1]
        line.append(drawn.rstrip(), style=palette.RUNNING if state.job and state.job.kind == "fit" else "dim")
        lines.append(line)
    return lines


def _heading(state: State, state_curve: Curve, log: bool, symbols: Symbols) -> str:
    parts = [
        "loss" + (" (log)" if log else ""),
        formatting.arms([formatting.plain(arm) for arm in state_curve.arms], len(state.arms)),
    ]
    parts += [f"generation {state_curve.generation}" if state_curve.generation >= 0 else "feature classifier"]
    parts += [
        formatting.seeds(state_curve.seeds, len(state.seeds)),
        f"over {formatting.count(state_curve.total)} {formatting.plain(state_curve.unit)}",
    ]
    return f" {symbols.dot} ".join(part for part in parts if part)


def _columns(points: list[tuple[float, float]], width: int, total: int) -> list[float | None]:
    """The loss in each of `width` equal parts of the fit: the mean of the reported losses, or interpolated between
    neighbours; None for parts still to come."""
    width = max(width, 1)
    column_width = max(total, points[-1][0], 1) / width
    reported: list[list[float]] = [[] for _ in range(width)]
    for done, loss in points:
        reported[min(int(done / column_width), width - 1)].append(loss)
    means = [(i, sum(losses) / len(losses)) for i, losses in enumerate(reported) if losses]
    heights: list[float | None] = [means[0][1]] * means[0][0] + [None] * (width - means[0][0])
    for (i, before), (j, after) in zip(means, [*means[1:], means[-1]], strict=True):
        for column in range(i, j):
            heights[column] = before + (after - before) * (column - i) / (j - i)
    heights[means[-1][0]] = means[-1][1]
    return heights


def _level(loss: float, low: float, high: float, top: int, log: bool) -> int:
    """The level of a loss, from 0 to `top`."""
    if high <= low:
        return top // 2
    if log:
        loss, low, high = math.log(loss), math.log(low), math.log(high)
    return min(max(round((loss - low) / (high - low) * top), 0), top)
