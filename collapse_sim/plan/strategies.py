"""What a generation is made from. Pure functions of (k, row counts): no torch, no randomness, testable as truth tables.

A strategy is the *data* axis of an arm. The teacher and init axes are settings of the arm, for every strategy.
"""

from __future__ import annotations

import functools
import math
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


@runtime_checkable
class Sized(Protocol):
    """A strategy that needs other numbers of samples in every generation."""

    def rows_generated(self, k: int, counts: RowCounts) -> int:
        """How many rows generation k >= 0 generates, at least `counts.samples`, however many generations follow."""
        ...


def samples_of(strategy: Strategy, k: int, counts: RowCounts) -> int:
    """How many rows generation k generates. Raises TypeError or ValueError for a number that a plug-in may not give."""
    if not isinstance(strategy, Sized):
        return counts.samples
    rows = strategy.rows_generated(k, counts)
    if not isinstance(rows, int) or isinstance(rows, bool):
        raise TypeError(f"it gives {rows!r}; needed: a whole number of rows")
    if rows < counts.samples:
        raise ValueError(f"it gives {rows} rows; needed: at least `samples`, {counts.samples}, which are scored")
    return rows


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


class Growing(Component):
    """More and more of the previous generation's samples: `first` x t^`power` at the t-th fit (Xu et al. 2025).

    Generation k is fit t = k + 1, so by default generation 0's real rows are the first of the series. With power 2 and
    N = `first`, the expected variance of a Gaussian under maximum likelihood falls to sin(pi/sqrt(N)) / (pi/sqrt(N)) of
    the true one, as under `accumulate`, and not to 0. Generations generate as many rows as the next one is fitted to.
    """

    first: Annotated[int, Field(gt=0)] | None = None
    """Number of rows that the series starts with; default: as many as real rows."""
    power: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    """How fast numbers grow; 0: not at all."""
    real: Share = 0.0
    """Share of the real rows that is added in every generation, the same ones: beside growing numbers it shrinks."""

    def rows_generated(self, k: int, counts: RowCounts) -> int:
        return max(counts.samples, self._rows(k + 1, counts))

    def plan(self, k: int, counts: RowCounts) -> Plan:
        sources = (Source(REAL, round(self.real * counts.real)), Source(k - 1, self._rows(k, counts)))
        return Plan(tuple(source for source in sources if source.rows))

    def _rows(self, k: int, counts: RowCounts) -> int:
        """The samples that generation k is fitted to."""
        return round((self.first or counts.real) * math.pow(k + 1, self.power))


class Shrinking(Component):
    """Real rows that become fewer: the share `share` / k^`power` at generation k, and samples for the rest.

    The total stays the number of real rows. The real rows are the first ones, so that each generation's are among those
    of the one before.
    """

    share: Share = 0.5
    """The real part of generation 1's rows."""
    power: Annotated[float, Field(ge=0.0)] = 1.0
    """How fast the share falls; 0: not at all."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        real = round(self.share * counts.real / k**self.power)
        synthetic = counts.real - real
        if synthetic > counts.samples:
            raise StrategyError(
                f"shrinking takes {synthetic} samples of generation {k - 1}, but a generation has {counts.samples}: "
                f"raise `samples` to {counts.real}, which is enough for every generation"
            )
        sources = (Source(REAL, real), Source(k - 1, synthetic))
        return Plan(tuple(source for source in sources if source.rows))
