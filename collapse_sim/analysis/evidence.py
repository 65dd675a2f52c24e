"""What the seeds say of a claim: at one generation, or over all of them, before it is seen beside other claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from collapse_sim.analysis.contrast import LEAST, Contrast
from collapse_sim.analysis.numbers import figure
from collapse_sim.analysis.operands import Compared, MissingFiguresError, compare
from collapse_sim.analysis.reached import common, ended, generations_of
from collapse_sim.analysis.results import Results
from collapse_sim.recipe.claims import Expectation, Theory

ALPHA = 0.05  # of two-sided p values


@dataclass(frozen=True)
class Evidence:
    """Two-sided p values that a claim holds, and that it fails, with the figures they are from."""

    where: str  # "loss at generation 3", "loss at every generation"
    why: str = ""  # why nothing can be said, where it is so
    holds: float = 1.0
    fails: float = 1.0
    exact: float = 1.0  # that left and right are equal, where right is theory
    exact_at: int | None = None  # the generation that is of
    generation: int | None = None  # the one that decides: of `every`, the worst
    before: str = ""  # of how many generations it is the worst
    test: str = ""
    names: tuple[str, str] = ("", "")  # of the sides, as chosen by min or max
    shown: Contrast | None = None  # their figures
    margin: float | None = None  # what "=" allows, in the metric's unit
    seeds: tuple[int, ...] = ()
    corrections: tuple[str, ...] = ()  # what the p values account for beside one test


def gather(
    expected: Expectation, metric: str, generation: int | Literal["last", "every"], results: Results
) -> tuple[Evidence, tuple[str, ...]]:
    """The evidence, and what is to be said when it ends before the recipe's last generation."""
    if isinstance(generation, int):
        return _at(expected, metric, generation, results), ()
    last, caveats = _last(expected, metric, results)
    find = _every if generation == "every" else _at
    return find(expected, metric, last, results), caveats


def _last(expected: Expectation, metric: str, results: Results) -> tuple[int, tuple[str, ...]]:
    """The last generation that all arms of both sides have, and what is to be said when it isn't the recipe's last."""
    arms = [at.arm for side in (expected.left, expected.right) for at in side.arms if at.generation is None]
    last = common(results, [metric], arms)
    if last is None or last == results.generations:
        return results.generations, ()
    ends = {arm: max(generations_of(results, [metric], arm), default=last) for arm in arms}
    reached = ", ".join(f"{arm} has come to {end}" for arm, end in ends.items())
    apart = f" ({reached})" if len(set(ends.values())) > 1 else ""
    said = f"generation {last} is the last that both sides have{apart}; the recipe goes to {results.generations}"
    return last, (said,)


def _every(expected: Expectation, metric: str, last: int, results: Results) -> Evidence:
    """All generations: a claim holds when it holds at each, so the greatest p value counts; it fails when it fails at
    one of them, so the least counts as many times as there are generations (Bonferroni).

    Arms share generation 0, so it counts only in comparisons with theory.
    """
    where = f"{metric} at every generation"
    first = 0 if _with_theory(expected) else 1
    looks = last + 1 - first
    if looks < 1:
        if results.generations > last:
            return _at(expected, metric, first, results)
        return Evidence(where, "the run ends at generation 0, which all arms share")
    found = [_at(expected, metric, k, results, looks) for k in range(first, last + 1)]
    holds = max(each.holds for each in found)
    fails, exact = (min(1.0, looks * min(values)) for values in ([e.fails for e in found], [e.exact for e in found]))
    bad = fails <= ALPHA
    worst = min(found, key=lambda e: e.fails) if bad else max(found, key=lambda e: (e.holds, -e.fails))
    alike = sum(looks * each.fails <= ALPHA if bad else each.holds <= ALPHA for each in found)
    return replace(
        worst,
        where=where,
        holds=holds,
        fails=fails,
        exact=exact,
        exact_at=min(found, key=lambda e: e.exact).generation,
        before=f"{'fails' if bad else 'holds'} at {alike} of the {looks} generations {first} to {last}; "
        f"worst at {worst.generation}: ",
        corrections=(*worst.corrections, *([f"{looks} generations"] if looks > 1 else [])),
    )


def _at(expected: Expectation, metric: str, generation: int, results: Results, looks: int = 1) -> Evidence:
    """The evidence at one generation, one of so many that are looked at."""
    where = f"{metric} at generation {generation}"
    try:
        compared = compare(expected, metric, generation, results, looks)
    except MissingFiguresError as why:
        return Evidence(where, str(why), generation=generation)
    left, right, shown = compared.picked
    found = Evidence(
        where,
        generation=generation,
        exact_at=generation,
        test=f"difference to a fixed value, {shown.scale.words}" if shown.fixed else "t test of paired differences",
        names=(left, right),
        shown=shown,
        seeds=compared.seeds,
        corrections=(f"the choice from {compared.choices} arms",) if compared.choices else (),
    )
    contrasts = [pair for row in compared.pairs for pair in row]
    if not all(pair.difference.finite for pair in contrasts):
        return replace(found, why=_not_finite(expected, generation, results))
    if shown.n < 2:
        return replace(found, why="one seed gives no interval: add seeds")
    if expected.within is not None:
        found = replace(found, why=_doubt(contrasts, equal=True))
        return _equivalent(found, compared, expected.within / 100, _with_theory(expected))
    below, above = compared.together(Contrast.p)
    holds, fails = (below, above) if expected.relation == "<" else (above, below)
    return replace(found, holds=_two_sided(holds), fails=_two_sided(fails), why=_doubt(contrasts))


def _equivalent(found: Evidence, compared: Compared, part: float, exact: bool) -> Evidence:
    """Equal up to a part of right: holds when surely above the band's lower and below its upper end, fails when surely
    below the lower or above the upper one."""
    low = compared.together(lambda pair: pair.near(part)[0])
    high = compared.together(lambda pair: pair.near(part)[1])
    assert found.shown is not None
    return replace(
        found,
        holds=_two_sided(max(low.above, high.below)),
        fails=_two_sided(min(low.below, high.above)),
        exact=_two_sided(min(compared.together(Contrast.p))) if exact else 1.0,
        margin=part * abs(found.shown.right_mean),
    )


def _with_theory(expected: Expectation) -> bool:
    return any(isinstance(side.term, Theory) for side in (expected.left, expected.right))


def _two_sided(p: float) -> float:
    return min(1.0, 2 * p)


def _doubt(contrasts: Sequence[Contrast], *, equal: bool = False) -> str:
    """Why these seeds decide nothing, whatever their difference; "" if they may. `equal`: of a claim with "="."""
    if not all(pair.trusted for pair in contrasts):
        return "the seeds are so skewed that a few carry the mean, and no test of it can be relied on"
    if not any(pair.blunt for pair in contrasts):
        return ""
    if contrasts[0].n < LEAST:
        return f"{contrasts[0].n} seeds without scatter are no certainty: at least {LEAST} are needed"
    if equal or not all(pair.blunt and pair.unresolved for pair in contrasts):
        return ""
    gap = max(abs(pair.difference.mean) for pair in contrasts)
    return "both sides are equal for every seed" if gap == 0 else "that is less than the metric can resolve"


def _not_finite(expected: Expectation, generation: int, results: Results) -> str:
    """Why a difference is not a number: which fits of the arms that are compared diverged, if that is it."""
    at = [at for side in (expected.left, expected.right) for at in side.arms]
    reached: Mapping[str, int] = {a.arm: generation if a.generation is None else a.generation for a in at}
    until = {
        arm: {seed: k for seed, k in results.diverged.get(arm, {}).items() if k <= last}
        for arm, last in reached.items()
    }
    return "; ".join(["not every score is finite", *ended(replace(results, diverged=until), until)])


def interval_text(found: Evidence) -> str:
    """ "a - b = -1.000, interval -1.248 to -0.7516"; without the interval where there is none."""
    assert found.shown is not None
    difference, (left, right) = found.shown.difference, found.names
    said = f"{left} - {right} = {figure(difference.mean)}"
    if difference.low is None or difference.high is None:
        return said
    return f"{said}, interval {figure(difference.low)} to {figure(difference.high)}"
