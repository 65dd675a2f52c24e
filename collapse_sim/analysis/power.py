"""How many seeds would decide what these do not: the power of a t test of paired differences (Cohen 1988, ch. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, stdtrit

from collapse_sim.analysis.contrast import LEAST

POWER = 0.8
MOST = 1_000  # above, the number is not worth giving


def seeds_needed(gaps: Sequence[NDArray[np.float64]], alpha: float = 0.05) -> float | None:
    """The least number of seeds at which two-sided t tests at level `alpha` find all `gaps` (n,) to differ from 0.

    With a probability of 80 % or more, if means and standard deviations are those observed.

    inf for more than 1,000; None for fewer than 3 seeds, whose standard deviation says too little.
    """
    if any(gap.size < LEAST for gap in gaps):
        return None
    n = np.arange(LEAST, MOST + 1, dtype=np.float64)
    missed = np.zeros_like(n)
    for gap in gaps:
        mean, scatter = abs(float(gap.mean())), float(gap.std(ddof=1))
        if mean == 0 or not math.isfinite(scatter):
            return math.inf
        if scatter > 0:
            missed += nctdtr(n - 1, mean / scatter * np.sqrt(n), stdtrit(n - 1, 1 - alpha / 2))
    enough = n[1 - missed >= POWER]
    return float(enough[0]) if enough.size else math.inf


def in_words(needed: float | None) -> str:
    """ "12", "more than 1,000", "at least 3 seeds are needed to say"."""
    if needed is None:
        return f"at least {LEAST} seeds are needed to say"
    return f"more than {MOST:,}" if math.isinf(needed) else f"{needed:,.0f}"
