"""Whether arms differ from their baseline: p values of paired differences, and corrected for all arms together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from collapse_sim.analysis.contrast import Contrast, adjusted
from collapse_sim.analysis.intervals import Interval
from collapse_sim.analysis.results import Results


class PairedTest(NamedTuple):
    """Two-sided p values of a difference to the baseline; `holm` is corrected for all arms of the comparison."""

    p: float
    holm: float


def paired_tests(
    results: Results, metric: str, generation: int, differences: Mapping[str, Interval | None]
) -> dict[str, PairedTest]:
    """The tests of the arms in `differences` (arm - baseline of `results`), those of fewer than two seeds and of scores
    that are not finite left out."""
    of_baseline = results.scores(results.baseline, metric, generation)
    p_values = {}
    for arm, difference in differences.items():
        if difference is not None and difference.se is not None:
            scores = results.scores(arm, metric, generation)
            left, right = (np.array([of[s] for s in scores if s in of_baseline]) for of in (scores, of_baseline))
            contrast = Contrast(left, right, resolution=results.resolutions.get(metric, 0.0))
            p_values[arm] = min(1.0, 2 * min(contrast.p()))
    corrected = adjusted(list(p_values.values()))
    return {arm: PairedTest(p, holm) for (arm, p), holm in zip(p_values.items(), corrected, strict=True)}
