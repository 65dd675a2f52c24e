"""The two sides of a claim in figures: which scores they are, over which seeds, and their paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from collapse_sim.analysis.claims import ArmAt, Expectation, Number, Pick, Side, Theory
from collapse_sim.analysis.intervals import Interval, interval
from collapse_sim.analysis.reached import ended
from collapse_sim.analysis.results import Results


class MissingFiguresError(LookupError):
    """A side has no figures: which, and why."""


@dataclass(frozen=True)
class Compared:
    """left - right over the seeds that both sides have. Factors are multiplied in."""

    left: str
    right: str
    left_mean: float
    right_mean: float
    difference: Interval
    paired: bool  # False: one side is a number or theory
    caveats: tuple[str, ...] = ()


def compare(expected: Expectation, metric: str, generation: int, results: Results) -> Compared:
    """The figures of a claim at one generation. Raises MissingFiguresError."""
    if metric not in results.metrics:
        raise MissingFiguresError(f"the run has no metric {metric!r}")
    asked = _Asked(metric, generation, results)
    (left_name, left, left_caveats), (right_name, right, right_caveats) = (
        asked.side(expected.left, expected.right),
        asked.side(expected.right, expected.left),
    )
    seeds = [s for s in results.seeds if _has(left, s) and _has(right, s)]
    if not seeds:
        raise MissingFiguresError(
            f"{left_name} and {right_name} have scores for different seeds only: run the missing ones"
        )
    lefts, rights = [_at(left, s) for s in seeds], [_at(right, s) for s in seeds]
    return Compared(
        left_name,
        right_name,
        interval(lefts).mean,
        interval(rights).mean,
        interval(a - b for a, b in zip(lefts, rights, strict=True)),
        paired=not isinstance(left, float) and not isinstance(right, float),
        caveats=left_caveats + right_caveats,
    )


_Values = Mapping[int, float] | float  # a value a seed, or one fixed figure


def _has(values: _Values, seed: int) -> bool:
    return isinstance(values, float) or seed in values


def _at(values: _Values, seed: int) -> float:
    return values if isinstance(values, float) else values[seed]


@dataclass(frozen=True)
class _Asked:
    metric: str
    generation: int
    results: Results

    def side(self, side: Side, other: Side) -> tuple[str, _Values, tuple[str, ...]]:
        """Name, figures and caveats of one side; `theory` needs to know the other."""
        caveats: tuple[str, ...] = ()
        term = side.term
        if isinstance(term, Pick):
            caveats = (
                f"{term.how}(...) of {len(term.of)} arms was picked by the same seeds it is compared with, "
                "which is optimistic: confirm it with other seeds",
            )
            term = self._pick(term)
        name, values = self._term(term, other)
        if side.factor == 1:
            return name, values, caveats
        scaled = side.factor * values if isinstance(values, float) else {s: side.factor * v for s, v in values.items()}
        return f"{side.factor:g} * {name}", scaled, caveats

    def _term(self, term: ArmAt | Number | Theory, other: Side) -> tuple[str, _Values]:
        if isinstance(term, Number):
            return f"{term.value:g}", term.value
        if isinstance(term, ArmAt):
            return _name(term), self._scores(term)
        assert isinstance(other.term, ArmAt), "parse allows theory only opposite one arm"
        k = self._generation(other.term)
        value = self.results.theory_at(other.term.arm, self.metric, k)
        if value is None:
            raise MissingFiguresError(f"theory has no curve of {self.metric} for {other.term.arm} at generation {k}")
        return "theory", float(value)

    def _pick(self, pick: Pick) -> ArmAt:
        """The arm with the least (greatest) mean over the seeds that all of them have."""
        scores = {at: self._scores(at) for at in pick.of}
        seeds = [s for s in self.results.seeds if all(s in values for values in scores.values())]
        if not seeds:
            raise MissingFiguresError(f"the arms of {pick.how}(...) share no seed")
        means = {at: interval(values[s] for s in seeds).mean for at, values in scores.items()}
        lost = [_name(at) for at, mean in means.items() if not math.isfinite(mean)]
        if lost:
            ends = "".join(f"; {line}" for line in ended(self.results, [at.arm for at in pick.of]))
            raise MissingFiguresError(
                f"{pick.how}(...) cannot pick: not every {self.metric} of {', '.join(lost)} is finite{ends}"
            )
        return (min if pick.how == "min" else max)(means, key=lambda at: means[at])

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
