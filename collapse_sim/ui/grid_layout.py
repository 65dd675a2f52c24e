"""The widths of the table's parts on the terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.cells import cell_len

from collapse_sim.ui import formatting
from collapse_sim.ui.state import State
from collapse_sim.ui.symbols import Symbols

ROOMY_SLOT = 8  # room for "▸67%", or a value, and some air
WIDEST_SLOT = 13  # room for "▸ score 2/3" and some air
LEAST_VALUE = 6
LEAST_SPARK = 7  # a sparkline gives up columns to the cells down to this width


def series(state: State, arm: str, metric: str | None) -> list[float | None]:
    """An arm's means of a metric, one per generation; [] if there is none yet."""
    return state.scores.get(arm, {}).get(metric or "", [])


def latest(state: State, arm: str, metric: str | None) -> str:
    """The last known mean, formatted; "" if there is none."""
    return next((formatting.value(x) for x in reversed(series(state, arm, metric)) if x is not None), "")


def title(state: State, metric: str, symbols: Symbols) -> str:
    """A metric's name with the direction that is better."""
    lower = state.lower_is_better.get(metric)
    direction = "" if lower is None else f" {symbols.lower if lower else symbols.higher}"
    log = " log" if metric == state.show and SparklineScale.of(state).log else ""  # of its sparkline
    return formatting.plain(metric) + direction + log


@dataclass(frozen=True)
class GridLayout:
    """Name of the arm, cells of `slot` columns, sparkline and latest value of the shown metric, values of others."""

    name: int
    slot: int
    first: int  # the window's generations, first to last
    last: int
    windowed: bool  # whether one column at each end shows that there are more
    spark: int
    shown: int  # sparkline and value together
    others: tuple[tuple[str, int], ...]  # (metric, columns)

    @property
    def cells(self) -> int:
        """The width of all cells together."""
        return (self.last - self.first + 1) * self.slot + 2 * self.windowed

    @classmethod
    def of(cls, state: State, width: int, symbols: Symbols) -> GridLayout:
        """The best use of `width` columns: legible cells first, then more metrics, then words in the cells."""
        columns = state.generations + 1
        name = max((cell_len(formatting.plain(arm)) for arm in state.cells), default=3)
        name = min(name, max(width // 4, 6))
        spark = columns if columns <= 10 else max(min(columns, width // 6), 10)
        shown = _shown(state, spark, symbols, width)
        room = width - name - 2 - 2 - shown
        if room < columns:  # the sparkline gives up columns to the cells
            spark = spark - (columns - room) if spark - (columns - room) >= LEAST_SPARK else min(spark, LEAST_SPARK)
            spark = 0 if width < 60 else spark
            shown = _shown(state, spark, symbols, width)
            room = width - name - 2 - 2 - shown
        if room < columns:
            window = max(room - 2, 1)
            first = max(min(state.generation() - window * 2 // 3, columns - window), 0)
            return cls(name, 1, first, min(first + window, columns) - 1, True, spark, shown, ())
        slot = min(room // columns, ROOMY_SLOT)
        room -= slot * columns
        others = []
        for metric in state.metrics:
            values = [len(latest(state, arm, metric)) for arm in state.cells]
            needed = 2 + max(len(title(state, metric, symbols)), LEAST_VALUE, *values)
            if metric != state.show and needed <= room:
                others.append((metric, needed))
                room -= needed
        slot = min(slot + room // columns, WIDEST_SLOT)
        return cls(name, slot, 0, columns - 1, False, spark, shown, tuple(others))


def _shown(state: State, spark: int, symbols: Symbols, width: int) -> int:
    if state.show is None:
        return 0
    value = max([len(latest(state, arm, state.show)) for arm in state.cells] + [LEAST_VALUE])
    return max(spark + 1 + value, min(len(title(state, state.show, symbols)), width // 5))


@dataclass(frozen=True)
class SparklineScale:
    """One scale for all sparklines, so that arms can be compared; logarithmic if values span a factor over 30."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, state: State) -> SparklineScale:
        """From all arms' finite values of the shown metric."""
        values = [
            x for arm in state.cells for x in series(state, arm, state.show) if x is not None and math.isfinite(x)
        ]
        low, high = min(values, default=0.0), max(values, default=1.0)
        if low > 0 and high > 30 * low:
            return cls(math.log(low), math.log(high), True)
        return cls(low, high, False)

    def level(self, x: float, levels: int) -> int:
        """The level of x, 0 .. levels - 1; the middle if all values are the same."""
        if self.high <= self.low:
            return levels // 2
        share = ((math.log(x) if self.log else x) - self.low) / (self.high - self.low)
        return min(int(share * levels), levels - 1)
