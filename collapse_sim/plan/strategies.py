"""What a generation is made from. Pure functions of (k, row counts): no torch, no randomness, testable as truth tables.

A strategy is the *data* axis of an arm. The teacher and init axes are settings of the arm, for every strategy.
"""

from __future__ import annotations

import functools
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field

from collapse_sim.core.component import Component
from collapse_sim.data.sources import REAL, Plan, RowCounts, Source, StrategyError

Share = Annotated[float, Field(ge=0.0, le=1.0)]


@runtime_checkable
class Strategy(Protocol):
    """The contract of the data axis."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        """What generation k >= 1 is fitted to. Raises StrategyError when the rows do not exist."""
        ...


class Replace(Component):
    """Only the previous generation's samples (Shumailov et al. 2024)."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        return Plan((Source(k - 1, counts.samples),))


@functools.lru_cache(maxsize=8)
def _all_of(generations: int, rows: int) -> tuple[Source, ...]:
    return tuple(Source(j, rows) for j in range(generations))


def _past(k: int, rows: int) -> tuple[Source, ...]:
    """All rows of generations 0 to k - 1. Plans share these sources: those of 3,000 generations would not fit."""
    return _all_of(1 << (k - 1).bit_length(), rows)[:k]


class Accumulate(Component):
    """The real rows and every generation's samples (Gerstgrasser et al. 2024)."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        return Plan((Source(REAL, counts.real), *_past(k, counts.samples)))


class AccumulateSubsample(Component):
    """A fixed budget of rows drawn uniformly from all past rows, real ones included (Kazdan et al. 2024).

    Where samples are made for conditions, how many rows are of which generation is drawn so, and the rows themselves
    are chosen so that no condition is taken twice while there are others.
    """

    budget: Annotated[int, Field(gt=0)] | None = None
    """Rows drawn for each generation; default: as many as real rows."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        return Plan(Accumulate().plan(k, counts).sources, budget=self.budget or counts.real)


class Mix(Component):
    """A share of the real rows and a share of the previous generation's samples.

    Both shares are relative to the number of real rows (Bertrand et al. 2024: real 1, synthetic lambda). The real rows
    are the same ones each generation; with `redraw` both shares are drawn anew for each (Shumailov et al. 2024: a
    random tenth of the original data), so that a chain sees all of the real rows in time.
    """

    real: Share = 1.0
    """Share of the real rows that is taken."""
    synthetic: Annotated[float, Field(ge=0.0)] = 1.0
    """Samples of the previous generation, relative to the number of real rows."""
    redraw: bool = False
    """Draw other real rows, and samples for other conditions, for each generation."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        real, synthetic = round(self.real * counts.real), round(self.synthetic * counts.real)
        if synthetic > counts.samples:
            raise StrategyError(
                f"mix takes {synthetic} samples of a generation ({self.synthetic} x {counts.real} real rows), "
                f"but a generation has {counts.samples}: raise `samples` to {synthetic} or lower `synthetic`"
            )
        if real + synthetic == 0:
            raise StrategyError("mix takes no rows at all: raise `real` or `synthetic`")
        among = (counts.real, counts.samples) if self.redraw else (None, None)
        sources = (Source(REAL, real, 0, among[0]), Source(k - 1, synthetic, 0, among[1]))
        return Plan(tuple(source for source in sources if source.rows))


class Fresh(Component):
    """Real rows that no generation has used before, and the previous generation's samples for the rest.

    `share` is the fresh part of each generation's rows; the total stays the number of real rows. With `redraw` the
    fresh rows are drawn, anew for each generation, from all that generation 0 has not seen: then a row may come again,
    and a reserve of one share is enough for any number of generations.
    """

    share: Share = 0.1
    """The fresh part of each generation's rows."""
    redraw: bool = False
    """Draw the fresh rows from the whole reserve, and samples for other conditions."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        fresh = round(self.share * counts.real)
        synthetic = counts.real - fresh
        first = counts.real + (0 if self.redraw else (k - 1) * fresh)
        if fresh and first + fresh > counts.pool:
            lower = "`share` or `data.rows`" if self.redraw else "`share`, `generations` or `data.rows`"
            raise StrategyError(
                f"fresh needs {fresh} unused real rows per generation, {first + fresh} in all at generation {k}, "
                f"but the data has {counts.pool}: lower {lower}"
            )
        if synthetic > counts.samples:
            raise StrategyError(
                f"fresh takes {synthetic} samples of a generation, but a generation has {counts.samples}: "
                f"raise `samples` to {synthetic} or raise `share`"
            )
        among = (counts.pool - counts.real, counts.samples) if self.redraw else (None, None)
        sources = (Source(REAL, fresh, first, among[0]), Source(k - 1, synthetic, 0, among[1]))
        return Plan(tuple(source for source in sources if source.rows))
