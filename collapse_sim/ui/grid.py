"""The table of a run: arms x generations as cells, a sparkline of the chosen metric and the latest values."""

from __future__ import annotations

import math

from rich.text import Text

from collapse_sim.ui import formatting, palette
from collapse_sim.ui.grid_layout import LEAST_VALUE, WIDEST_SLOT, GridLayout, SparklineScale, latest, series, title
from collapse_sim.ui.state import State
from collapse_sim.ui.symbols import Symbols

VERBS = ("fit", "draw", "score")


def grid(state: State, layout: GridLayout, height: int, symbols: Symbols) -> list[Text]:
    """A header and one line per arm, at most `height` lines; the arms of the current job stay visible."""
    arms, scale = list(state.cells), SparklineScale.of(state)
    room = max(height - 1, 1)
    if len(arms) > room:
        room = max(room - 1, 1)  # one line for the number of hidden arms
        k = state.generation()
        current = next((i for i, arm in enumerate(arms) if state.covers(arm, k)), 0)
        first = max(min(current - room // 2, len(arms) - room), 0)
    else:
        first = 0
    lines = [_header(state, layout, symbols)]
    for i, arm in enumerate(arms[first : first + room], start=first):
        lines.append(_row(state, arm, palette.color(i), layout, scale, symbols))
    if len(arms) > room:
        complete = sum(state.complete(cell) for cells in state.cells.values() for cell in cells)
        total = len(arms) * (state.generations + 1)
        lines.append(Text(f"{symbols.cut} {len(arms) - room} more arms; {complete} of {total} cells done", style="dim"))
    return lines[:height]


def values(state: State, layout: GridLayout, symbols: Symbols) -> list[Text]:
    """The shown metric by arm and generation, in the cells' columns; [] if these are too narrow."""
    texts = {
        arm: ["" if x is None else formatting.value(x) for x in series(state, arm, state.show)] for arm in state.cells
    }
    widest = max([len(text) for row in texts.values() for text in row] + [LEAST_VALUE])
    if not state.show or layout.windowed or widest >= layout.slot:
        return []
    lines = [Text.assemble((symbols.fit(title(state, state.show, symbols), layout.name) + "  ", "dim"))]
    lines[0].append(_numbers(layout), style="dim")
    for i, (arm, row) in enumerate(texts.items()):
        name = (symbols.fit(formatting.plain(arm), layout.name) + "  ", palette.color(i))
        line = Text.assemble(name)
        for k in range(state.generations + 1):
            text = row[k] if k < len(row) else ""
            line.append((text or symbols.todo).ljust(layout.slot), style="" if text else "dim")
        lines.append(line)
    return lines


def _header(state: State, layout: GridLayout, symbols: Symbols) -> Text:
    """Numbers of the generations, names of the metrics."""
    line = Text(" " * (layout.name + 2), style="dim")
    line.append(_numbers(layout) + "  ")
    if state.show is not None:
        line.append(symbols.right(title(state, state.show, symbols), layout.shown))
    for metric, columns in layout.others:
        line.append(symbols.right(title(state, metric, symbols), columns))
    return line


def _numbers(layout: GridLayout) -> str:
    """The generations' numbers above their cells, as many as fit."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 10**9) if s * layout.slot > len(str(layout.last)))
    numbers = " " if layout.windowed else ""
    for k in range(layout.first, layout.last + 1):
        start = (k - layout.first) * layout.slot + layout.windowed
        if k % step == 0 and start + len(str(k)) <= layout.cells:
            numbers = numbers.ljust(start) + str(k)
    return numbers.ljust(layout.cells)


def _row(state: State, arm: str, color: str, layout: GridLayout, scale: SparklineScale, symbols: Symbols) -> Text:
    line = Text()
    line.append(symbols.fit(formatting.plain(arm), layout.name) + "  ", style=color)
    if layout.windowed:
        line.append(symbols.more_left if layout.first > 0 else " ", style="dim")
    for k in range(layout.first, layout.last + 1):
        text, style = _cell(state, arm, k, layout.slot, symbols)
        line.append(symbols.fit(text, layout.slot), style=style)
    if layout.windowed:
        line.append(symbols.more_right if layout.last < state.generations else " ", style="dim")
    line.append("  ")
    if state.show is not None:
        if layout.spark:
            line.append(_sparkline(series(state, arm, state.show), layout.spark, scale, symbols), style=color)
        line.append(symbols.right(latest(state, arm, state.show), layout.shown - layout.spark))
    for metric, columns in layout.others:
        line.append(symbols.right(latest(state, arm, metric), columns), style="dim")
    return line


def _cell(state: State, arm: str, k: int, slot: int, symbols: Symbols) -> tuple[str, str]:
    """The text and style of the cell of one arm at one generation."""
    cell, seeds = state.cells[arm][k], len(state.seeds)
    if state.complete(cell) and state.diverged(arm, k):
        all_diverged = state.diverged(arm, k) == seeds
        return symbols.bad if all_diverged else f"{symbols.bad}{state.diverged(arm, k)}", palette.WARNING
    if state.complete(cell):
        reused = cell.reused and not cell.made
        return (symbols.reused, palette.REUSED) if reused else (symbols.done, palette.DONE)
    stages, running = state.stages(cell), state.covers(arm, k)
    if not any(stages) and not running:
        return symbols.todo, "dim"
    part = min(int(sum(stages) / (3 * seeds) * len(symbols.part)), len(symbols.part) - 1)
    symbol, style = (symbols.running, f"bold {palette.RUNNING}") if running else (symbols.part[part], palette.RUNNING)
    if slot >= WIDEST_SLOT:
        stage = next((i for i, done in enumerate(stages) if done < seeds), 2)
        share = f"{stages[stage]}/{seeds}" if seeds < 10 else f"{100 * stages[stage] // seeds}%"
        return f"{symbol} {VERBS[stage]} {share if seeds > 1 else ''}", style
    if slot >= LEAST_VALUE - 1:
        return f"{symbol}{min(100 * sum(stages) // (3 * seeds), 99)}%", style
    return symbol, style


def _sparkline(values: list[float | None], width: int, scale: SparklineScale, symbols: Symbols) -> str:
    """One column per generation; with more generations than columns, each column shows its last value."""
    columns = []
    for i in range(width):
        start = i * len(values) // width
        column_values = values[start : max((i + 1) * len(values) // width, start + 1)]
        x = next((x for x in reversed(column_values) if x is not None), None)
        if x is None:
            columns.append(" ")
        else:
            columns.append(symbols.spark[scale.level(x, len(symbols.spark))] if math.isfinite(x) else symbols.bad)
    return "".join(columns)
