"""What curations kept of generated rows, from the journal of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collapse_sim.analysis.numbers import finite

Figures = dict[str, dict[int, dict[str, dict[int, float]]]]  # arm -> generation -> figure -> seed -> value


def curation_figures(lines: Iterable[Mapping[str, Any]]) -> Figures:
    """As recorded, nan for null; the last value of an (arm, generation, figure, seed) counts."""
    figures: Figures = {}
    for line in lines:
        if line.get("event") != "curation":
            continue
        by_figure = figures.setdefault(line["arm"], {}).setdefault(line["generation"], {})
        for name, values in line["figures"].items():
            numbers = (math.nan if value is None else float(value) for value in values)
            by_figure.setdefault(name, {}).update(zip(line["seeds"], numbers, strict=True))
    return figures


def curation_document(figures: Figures, arms: Sequence[str], seeds: Sequence[int], last: int) -> dict[str, Any]:
    """{arm: [{"generation": k, figure: [a value per seed]}]} for JSON; null where there is no finite value."""
    return {
        arm: [
            {"generation": k, **{name: [finite(by_seed.get(seed)) for seed in seeds] for name, by_seed in of.items()}}
            for k, of in sorted(figures[arm].items())
            if k <= last
        ]
        for arm in arms
        if arm in figures
    }
