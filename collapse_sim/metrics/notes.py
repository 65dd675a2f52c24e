"""Notes beside a metric's figures: the numbers of rows on either side, and the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from collapse_sim.metrics.base import FeatureSpace

if TYPE_CHECKING:
    from collapse_sim.data.base import Info
    from collapse_sim.metrics.base import Which

ENOUGH = 10_000  # rows on either side from which the bias of a FID is relatively small
WORDS: Mapping[Which, str] = {
    "samples": "samples",
    "outputs": "outputs for held-out rows",
    "real": "real rows",
    "held_out": "held-out rows",
}


def count_of(which: Which, info: Info, samples: int) -> int:
    """The number of rows of a kind."""
    return {"samples": samples, "outputs": info.held_out, "real": info.rows, "held_out": info.held_out}[which]


def note(counts: Mapping[Which, int], space: FeatureSpace | None, used: int | None = None) -> str:
    """ "5,000 samples against 10,000 of 60,000 real rows; inception 6726825d"; at most `used` rows of either side."""
    sides = [
        f"{n:,} {WORDS[which]}" if used is None or n <= used else f"{used:,} of {n:,} {WORDS[which]}"
        for which, n in counts.items()
    ]
    return " against ".join(sides) + (f"; {space.label}" if space else "")


def biased(counts: Mapping[Which, int]) -> str:
    """The warning for a biased estimate from these numbers of rows; "" if they are enough."""
    few = [WORDS[which] for which, n in counts.items() if n < ENOUGH]
    return f"biased: fewer than {ENOUGH:,} {' and '.join(few)}" if few else ""
