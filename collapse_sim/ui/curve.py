"""The loss of the fit under way, or of the last one, as a curve."""

from __future__ import annotations

import math

from rich.text import Text

from collapse_sim.ui import formatting, palette
from collapse_sim.ui.state import Curve, State
from collapse_sim.ui.symbols import Symbols

WIDEST = 120  # columns


def curve(state: State, width: int, height: int, symbols: Symbols) -> list[Text]:
    """A heading and `height` - 1 lines of columns, lowest loss at the bottom; [] when there is no loss to draw yet.

    The axis is logarithmic when the losses differ by much, as a sparkline's.
    """
    found = state.curve
    points = [(done, loss) for done, loss in found.losses if math.isfinite(loss)] if found else []
    if found is None or not points or height < 3 or width < 30:
        return []
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    log = low > 0 and high > 30 * low
    labels = [formatting.value(high), formatting.value(low)]
    margin = max(map(len, labels))
    columns = _columns(points, min(width, WIDEST) - margin - 1, found.total)
    rows, levels = height - 1, len(symbols.spark)
    lines = [Text(_heading(state, found, log, symbols), style="dim")]
    for row in range(rows):
        label = labels[0] if row == 0 else labels[1] if row == rows - 1 else ""
        line = Text(label.rjust(margin) + " ", style="dim")
        above = (rows - 1 - row) * levels  # levels below this row
        drawn = ""
        for loss in columns:
            level = 0 if loss is None else 1 + _level(loss, low, high, rows * levels - 1, log)
            drawn += " " if level <= above else symbols.spark[min(level - above, levels) - 1]
        line.append(drawn.rstrip(), style=palette.RUNNING if state.job and state.job.kind == "fit" else "dim")
        lines.append(line)
    return lines


def _heading(state: State, found: Curve, log: bool, symbols: Symbols) -> str:
    parts = [
        "loss" + (" (log)" if log else ""),
        formatting.arms([formatting.plain(arm) for arm in found.arms], len(state.arms)),
    ]
    parts += [f"generation {found.generation}" if found.generation >= 0 else "feature classifier"]
    parts += [
        formatting.seeds(found.seeds, len(state.seeds)),
        f"over {formatting.count(found.total)} {formatting.plain(found.unit)}",
    ]
    return f" {symbols.dot} ".join(part for part in parts if part)


def _columns(points: list[tuple[float, float]], width: int, total: int) -> list[float | None]:
    """The loss in each of `width` stretches of the fit: the mean of what was reported there, or else in between; None:
    to come."""
    width = max(width, 1)
    each = max(total, points[-1][0], 1) / width
    reported: list[list[float]] = [[] for _ in range(width)]
    for done, loss in points:
        reported[min(int(done / each), width - 1)].append(loss)
    known = [(i, sum(losses) / len(losses)) for i, losses in enumerate(reported) if losses]
    found: list[float | None] = [known[0][1]] * known[0][0] + [None] * (width - known[0][0])
    for (i, before), (j, after) in zip(known, [*known[1:], known[-1]], strict=True):
        for column in range(i, j):
            found[column] = before + (after - before) * (column - i) / (j - i)
    found[known[-1][0]] = known[-1][1]
    return found


def _level(loss: float, low: float, high: float, most: int, log: bool) -> int:
    """0 .. most."""
    if high <= low:
        return most // 2
    if log:
        loss, low, high = math.log(loss), math.log(low), math.log(high)
    return min(max(round((loss - low) / (high - low) * most), 0), most)
