"""The control of every filter: as many rows of as many candidates, chosen at random."""

from __future__ import annotations

from collapse_sim.core.randomness import Draws
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.selection import Selection


class RandomChoice(Selection):
    """Candidates chosen uniformly without replacement: what a filter is to be compared with.

    Kept rows have the distribution of all candidates, so only what a filter does beyond drawing more remains.
    """

    @property
    def keeps_all(self) -> bool:
        return self.keep == 1.0

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        return Choice(draws.permutation(len(pool))[:rows].sort().values)
