"""Which rows of which generations a model is fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

REAL = -1  # the generation number of real rows


class Source(NamedTuple):
    """Rows [first, first + rows) of one generation's rows (REAL = -1: of the real rows, in the seed's own order).

    With `among`, `rows` rows are drawn from the rows [first, first + among), a new draw for each planned generation and
    seed: arms with the same plan draw the same rows.

    Conditional samples (labels of a regression, summaries, texts with a prompt) are generated for the conditions of the
    real rows that generation 0 is fitted to, from the last one backwards. So the first real rows and the first samples
    have different conditions, as long as there are enough of them.
    """

    generation: int
    rows: int
    first: int = 0
    among: int | None = None


class Plan(NamedTuple):
    """What generation k is fitted to. With a `budget`, that many rows are drawn from the union of the sources.

    For conditional samples, drawn rows (`budget`, `among`) cover as many different conditions as there are.
    """

    sources: tuple[Source, ...]
    budget: int | None = None

    @property
    def rows(self) -> int:
        """How many rows the fit sees in one epoch."""
        pool = sum(source.rows for source in self.sources)
        return pool if self.budget is None else min(pool, self.budget)


class RowCounts(NamedTuple):
    """The numbers of rows that a strategy plans with."""

    real: int  # rows that generation 0 is fitted to
    samples: int  # rows that each generation generates
    pool: int  # all available real rows, >= real; those beyond `real` have never been used


class StrategyError(ValueError):
    """The plan needs rows that do not exist; the message says which and how many."""


def generation_zero(counts: RowCounts) -> Plan:
    """Generation 0 of every arm: the real rows."""
    return Plan((Source(REAL, counts.real),))


class Taught(NamedTuple):
    """Distillation: the generation that teaches, and the weight of each term."""

    generation: int
    weights: Mapping[str, float]


class Chain(NamedTuple):
    """What an arm's models are fitted to, for each generation from 0 on: all that a closed form may depend on."""

    plans: tuple[Plan, ...]
    teachers: tuple[Taught | None, ...]  # of each generation; None: no distillation
