"""The two sides of a claim as figures: their scores, their common seeds, and p values over min and max."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collapse_sim.analysis.contrast import Contrast, OneSided
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scale import UNBOUNDED, Scale
from collapse_sim.recipe.claims import ArmAt, Expectation, Number, Pick, Side, Theory

_Values = Mapping[int, float] | float  # one value per seed, or one fixed value


class MissingFiguresError(LookupError):
    """A side of a claim has no figures; the message says which and why."""


@dataclass(frozen=True)
class Compared:
    """Every candidate of the left side against every candidate of the right side; several only for min and max.

    `min(a, b) < c` is true if a or b is less than c, and `max(a, b) < c` if both are. If one of several is enough, the
    least of their p values is multiplied by their number, which accounts for the choice; if all are needed, the
    greatest p value counts.
    """

    lefts: tuple[str, ...]
    rights: tuple[str, ...]
    pairs: tuple[tuple[Contrast, ...], ...]  # [left][right]
    seeds: tuple[int, ...]  # those that all of them have
    left_is: str | None = None  # "min", "max"
    right_is: str | None = None

    @property
    def picked(self) -> tuple[str, str, Contrast]:
        """The names and figures of the pair to show: the least (greatest) mean of each side."""
        i = _pick(self.left_is, [row[0].left_mean for row in self.pairs])
        j = _pick(self.right_is, [pair.right_mean for pair in self.pairs[0]])
        return self.lefts[i], self.rights[j], self.pairs[i][j]

    @property
    def choices(self) -> int:
        """The number of arms that were chosen from, on both sides together; 0 without min and max."""
        return len(self.lefts) * (self.left_is is not None) + len(self.rights) * (self.right_is is not None)

    def together(self, p_values: Callable[[Contrast], OneSided]) -> OneSided:
        """The p values for the claim as a whole, from those of all pairs."""
        evidence = [[p_values(pair) for pair in row] for row in self.pairs]
        return OneSided(
            _any_of([[p.below for p in row] for row in evidence], self.left_is == "min", self.right_is == "max"),
            _any_of([[p.above for p in row] for row in evidence], self.left_is == "max", self.right_is == "min"),
        )


def _pick(how: str | None, means: Sequence[float]) -> int:
    return means.index(max(means) if how == "max" else min(means))


def _any_of(p_values: Sequence[Sequence[float]], any_left: bool, any_right: bool) -> float:
    """The p value of "for any (or all) on the left and any (or all) on the right"."""
    table: NDArray[np.float64] = np.asarray(p_values, dtype=np.float64)
    lefts, rights = len(p_values), len(p_values[0])
    if any_left and any_right:
        return min(1.0, table.size * float(table.min()))
    if any_left:
        return min(1.0, lefts * float(np.min(table.max(axis=1))))
    if any_right:
        return min(1.0, rights * float(np.min(table.max(axis=0))))
    return float(table.max())


def compare(expected: Expectation, metric: str, generation: int, results: Results, looks: int = 1) -> Compared:
    """The figures of a claim at one of `looks` tested generations. Raises MissingFiguresError."""
    if metric not in results.metrics:
        raise MissingFiguresError(f"the run has no metric {metric!r}")
    operands = _Operands(metric, generation, results)
    lefts, rights = operands.side(expected.left, expected.right), operands.side(expected.right, expected.left)
    for side, figures in ((expected.left, lefts), (expected.right, rights)):
        if isinstance(side.term, Pick) and not operands.shared(figures):
            raise MissingFiguresError(f"the arms of {side.term.how}(...) share no seed")
    seeds = operands.shared({**lefts, **rights})
    if not seeds:
        names = " and ".join([*lefts, *rights])
        raise MissingFiguresError(f"{names} have scores for different seeds only: run the missing ones")
    scale = Scale(results.bounds.get(metric, UNBOUNDED))
    resolution = results.resolutions.get(metric, 0.0)
    by_side = [[_over(values, seeds) for values in side.values()] for side in (lefts, rights)]
    pairs = tuple(tuple(Contrast(left, right, scale, resolution, looks) for right in by_side[1]) for left in by_side[0])
    picks = (side.term.how if isinstance(side.term, Pick) else None for side in (expected.left, expected.right))
    return Compared(tuple(lefts), tuple(rights), pairs, seeds, *picks)


def _times(factor: float, values: _Values) -> _Values:
    return factor * values if isinstance(values, float) else {seed: factor * value for seed, value in values.items()}


def _over(values: _Values, seeds: Sequence[int]) -> NDArray[np.float64] | float:
    return values if isinstance(values, float) else np.array([values[seed] for seed in seeds], dtype=np.float64)


@dataclass(frozen=True)
class _Operands:
    metric: str
    generation: int
    results: Results

    def side(self, side: Side, other: Side) -> dict[str, _Values]:
        """{name: figures} of a side's candidates; `theory` depends on the other side."""
        terms = side.term.of if isinstance(side.term, Pick) else (side.term,)
        figures: dict[str, _Values] = {}
        for term in terms:
            name, values = self._term(term, other)
            if side.factor != 1:
                name, values = f"{side.factor:g} * {name}", _times(side.factor, values)
            figures[name] = values
        return figures

    def shared(self, sides: Mapping[str, _Values]) -> tuple[int, ...]:
        """The seeds for which all sides have scores, in the run's order."""
        return tuple(
            s for s in self.results.seeds if all(isinstance(values, float) or s in values for values in sides.values())
        )

    def _term(self, term: ArmAt | Number | Theory, other: Side) -> tuple[str, _Values]:
        if isinstance(term, Number):
            return f"{term.value:g}", float(term.value)
        if isinstance(term, ArmAt):
            return _name(term), self._scores(term)
        assert isinstance(other.term, ArmAt), "parse allows theory only opposite one arm"
        k = self._generation(other.term)
        value = self.results.theory_at(other.term.arm, self.metric, k)
        if value is None:
            raise MissingFiguresError(f"theory has no curve of {self.metric} for {other.term.arm} at generation {k}")
        return "theory", float(value)

    def _generation(self, at: ArmAt) -> int:
        return self.generation if at.generation is None else at.generation

    def _scores(self, at: ArmAt) -> Mapping[int, float]:
        k = self._generation(at)
        if at.arm not in self.results.arms:
            raise MissingFiguresError(f"the run has no arm {at.arm!r}")
        if k > self.results.generations:
            raise MissingFiguresError(f"there is no generation {k}: the run ends at {self.results.generations}")
        scores = self.results.scores(at.arm, self.metric, k)
        if not scores:
            raise MissingFiguresError(f"{at.arm} has no {self.metric} at generation {k} yet: continue the run")
        return scores


def _name(at: ArmAt) -> str:
    return at.arm if at.generation is None else f"{at.arm}@{at.generation}"
