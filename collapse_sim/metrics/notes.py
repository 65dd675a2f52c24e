"""What stands beside a metric's figures: how many rows, what they were compared with, through which network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from collapse_sim.metrics.base import FeatureSpace

if TYPE_CHECKING:
    from collapse_sim.data.base import Info
    from collapse_sim.metrics.base import Which

ENOUGH = 10_000  # rows on either side, from which on the bias of a FID is small beside what it measures
WORDS: Mapping[Which, str] = {
    "samples": "samples",
    "outputs": "outputs for held-out rows",
    "real": "real rows",
    "held_out": "held-out rows",
}


def count_of(which: Which, info: Info, samples: int) -> int:
    """How many rows of a kind there are."""
    return {"samples": samples, "outputs": info.held_out, "real": info.rows, "held_out": info.held_out}[which]


def note(counts: Mapping[Which, int], space: FeatureSpace | None, used: int | None = None) -> str:
    """ "5,000 samples against 10,000 of 60,000 real rows; inception 6726825d", at most `used` of either side."""
    sides = [
        f"{n:,} {WORDS[which]}" if used is None or n <= used else f"{used:,} of {n:,} {WORDS[which]}"
        for which, n in counts.items()
    ]
    return " against ".join(sides) + (f"; {space.label}" if space else "")


def biased(counts: Mapping[Which, int]) -> str:
    """What is to be said of a biased estimate from these numbers of rows, if anything."""
    few = [WORDS[which] for which, n in counts.items() if n < ENOUGH]
    return f"biased: fewer than {ENOUGH:,} {' and '.join(few)}" if few else ""
