"""Where collapse begins: an arm's scores against generation 0 of the same seeds, or against a stated limit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from collapse_sim.analysis.contrast import Contrast, adjusted
from collapse_sim.analysis.evidence import ALPHA
from collapse_sim.analysis.numbers import figure
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scale import UNBOUNDED, Scale
from collapse_sim.core.errors import RecipeError

State = Literal["collapsed", "not collapsed", "unclear"]
Side = Literal["above", "below"]
_LIMIT = re.compile(r"\s*(?P<side>[<>])?\s*(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*(?P<times>x)?\s*", re.I)
_ALLOWED = "a number (2.5), a multiple of generation 0 (2x), or either with its side ('<0.9', '>2x')"


class Place(NamedTuple):
    """One arm at one generation."""

    arm: str
    generation: int


@dataclass(frozen=True)
class Limit:
    """Beyond what a metric is collapsed: `number` in its unit, or times its value at generation 0 of the same seed."""

    number: float = 1.0
    relative: bool = True
    side: Side | None = None  # None: the side on which the metric is worse

    @property
    def default(self) -> bool:
        """Whether it is generation 0 itself."""
        return self == Limit()

    def side_for(self, results: Results, metric: str) -> Side | None:
        """The collapsed side; None for a metric without a better direction, unless the limit states one."""
        if self.side is not None:
            return self.side
        return {"lower": "above", "higher": "below", None: None}[results.metrics[metric]]

    def words(self, side: Side, *, brief: bool = False) -> str:
        """ "above 2.5", "below 0.9 x generation 0 of the same seeds"; brief: "below 0.9 x generation 0"."""
        if not self.relative:
            return f"{side} {self.number:g}"
        times = "" if self.number == 1 else f"{self.number:g} x "
        return f"{side} {times}generation 0{'' if brief else ' of the same seeds'}"


def parse_limit(text: str | None) -> Limit:
    """ "2.5", "2x", "<0.9", ">2x"; None: generation 0 itself. Raises RecipeError for any other text."""
    if text is None:
        return Limit()
    match = _LIMIT.fullmatch(text)
    number = float(match["number"]) if match else math.nan
    if match is None or not math.isfinite(number) or (match["times"] and number <= 0):
        positive = ", above 0" if match and match["times"] else ""
        raise RecipeError(f"--collapse-at: found {text!r}; allowed: {_ALLOWED}{positive}")
    sides: dict[str | None, Side | None] = {"<": "below", ">": "above", None: None}
    return Limit(number, bool(match["times"]), sides[match["side"]])


def check_multiple(results: Results, metrics: Sequence[str], places: Sequence[Place], limit: Limit) -> None:
    """Raise RecipeError for a multiple of generation 0 where that is not above 0: twice -1 is less than -1."""
    if not limit.relative or limit.number == 1:
        return
    for metric in metrics:
        for arm in dict.fromkeys(place.arm for place in places):
            first = results.mean(arm, metric, 0)
            if limit.side_for(results, metric) and first is not None and first.mean <= 0:
                raise RecipeError(
                    f"--collapse-at: {limit.number:g}x: {metric} of {arm} at generation 0 is {figure(first.mean)}, and "
                    "only of what is above 0 a multiple is a limit; allowed here: a number in the metric's unit, with "
                    "--metric NAME"
                )


def states(results: Results, metric: str, places: Sequence[Place], limit: Limit) -> dict[Place, State]:
    """The state of every place that can be tested: with at least two seeds, all finite.

    collapsed: significantly beyond the limit; not collapsed: significantly on its other side; at a level of 5 % over
    all places together (two-sided, Holm). Generation 0 is not tested against itself. {} for a metric without a
    direction and a limit without a side.
    """
    side = limit.side_for(results, metric)
    if side is None:
        return {}
    p_values: dict[Place, tuple[float, bool]] = {}
    for place in dict.fromkeys(places):
        contrast = _contrast(results, metric, place, limit)
        if contrast is not None:
            below, above = contrast.p(limit.number if limit.relative else 1.0)
            p_values[place] = 2 * min(below, above), (above < below) == (side == "above")
    adjusted_p = adjusted([p for p, _ in p_values.values()])
    return {
        place: "unclear" if p > ALPHA else "collapsed" if beyond else "not collapsed"
        for (place, (_, beyond)), p in zip(p_values.items(), adjusted_p, strict=True)
    }


def _contrast(results: Results, metric: str, place: Place, limit: Limit) -> Contrast | None:
    """None if there is nothing to test."""
    scores = results.scores(place.arm, metric, place.generation)
    first = results.scores(place.arm, metric, 0)
    if limit.default and place.generation == 0:
        return None
    seeds = [seed for seed in scores if not limit.relative or seed in first]
    left = _array(scores, seeds)
    right = _array(first, seeds) if limit.relative else limit.number
    if len(seeds) < 2 or not np.isfinite(left).all() or not np.isfinite(right).all():
        return None
    scale = Scale(results.bounds.get(metric, UNBOUNDED))
    return Contrast(left, right, scale, results.resolutions.get(metric, 0.0))


def _array(scores: Mapping[int, float], seeds: Sequence[int]) -> np.ndarray:
    return np.array([scores[seed] for seed in seeds], dtype=np.float64)


def theory_beyond(results: Results, metric: str, place: Place, limit: Limit) -> float | None:
    """Theory's value minus the limit; as the logarithm of their ratio where both are above 0. None without theory, and
    for generation 0 as the limit, which every expected change is beyond."""
    value = results.theory_at(place.arm, metric, place.generation)
    first = results.theory_at(place.arm, metric, 0)
    if value is None or limit.default or (limit.relative and first is None):
        return None
    bound = limit.number * first if limit.relative and first is not None else limit.number
    return math.log(value / bound) if value > 0 and bound > 0 else value - bound
