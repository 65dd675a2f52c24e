"""The evidence for a single claim from the seeds, at one generation or at all, before corrections across claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from collapse_sim.analysis.contrast import LEAST, Contrast
from collapse_sim.analysis.numbers import figure
from collapse_sim.analysis.operands import Compared, MissingFiguresError, compare
from collapse_sim.analysis.reached import common, divergences, generations_of
from collapse_sim.analysis.results import Results
from collapse_sim.recipe.claims import Expectation, Theory

ALPHA = 0.05  # of two-sided p values


@dataclass(frozen=True)
class Evidence:
    """Two-sided p values that a claim holds, and that it fails, with the figures behind them."""

    where: str  # "loss at generation 3", "loss at every generation"
    why: str = ""  # why nothing can be decided; "": it can
    holds: float = 1.0
    fails: float = 1.0
    exact: float = 1.0  # p value for left = right, if right is theory
    exact_at: int | None = None  # the generation of `exact`
    generation: int | None = None  # the deciding one: for `every`, the worst
    before: str = ""  # prefix of the reason: the result over all generations
    test: str = ""
    names: tuple[str, str] = ("", "")  # the sides, as chosen by min or max
    shown: Contrast | None = None  # the figures of these sides
    margin: float | None = None  # the tolerance of "=", in the metric's unit
    seeds: tuple[int, ...] = ()
    corrections: tuple[str, ...] = ()  # multiple tests that the p values account for


def gather(
    expected: Expectation, metric: str, generation: int | Literal["last", "every"], results: Results
) -> tuple[Evidence, tuple[str, ...]]:
    """The evidence, and a caveat if it ends before the recipe's last generation."""
    if isinstance(generation, int):
        return _at(expected, metric, generation, results), ()
    last, caveats = _last(expected, metric, results)
    evaluate = _every if generation == "every" else _at
    return evaluate(expected, metric, last, results), caveats


def _last(expected: Expectation, metric: str, results: Results) -> tuple[int, tuple[str, ...]]:
    """The last generation that all arms of both sides have, and a caveat if it is not the recipe's last."""
    arms = [at.arm for side in (expected.left, expected.right) for at in side.arms if at.generation is None]
    last = common(results, [metric], arms)
    if last is None or last == results.generations:
        return results.generations, ()
    ends = {arm: max(generations_of(results, [metric], arm), default=last) for arm in arms}
    reached = ", ".join(f"{arm} has reached {end}" for arm, end in ends.items())
    progress = f" ({reached})" if len(set(ends.values())) > 1 else ""
    caveat = f"generation {last} is the last that both sides have{progress}; the recipe goes to {results.generations}"
    return last, (caveat,)


def _every(expected: Expectation, metric: str, last: int, results: Results) -> Evidence:
    """All generations: a claim holds if it holds at each, so the greatest p value counts; it fails if it fails at one,
    so the least p value is multiplied by the number of generations (Bonferroni).

    Arms share generation 0, so it is used only in comparisons with theory.
    """
    where = f"{metric} at every generation"
    first = 0 if _with_theory(expected) else 1
    looks = last + 1 - first
    if looks < 1:
        if results.generations > last:
            return _at(expected, metric, first, results)
        return Evidence(where, "the run ends at generation 0, which all arms share")
    by_generation = [_at(expected, metric, k, results, looks) for k in range(first, last + 1)]
    holds = max(evidence.holds for evidence in by_generation)
    fails, exact = (
        min(1.0, looks * min(values))
        for values in ([evidence.fails for evidence in by_generation], [evidence.exact for evidence in by_generation])
    )
    failing = fails <= ALPHA
    worst = (
        min(by_generation, key=lambda evidence: evidence.fails)
        if failing
        else max(by_generation, key=lambda evidence: (evidence.holds, -evidence.fails))
    )
    agreeing = sum(
        looks * evidence.fails <= ALPHA if failing else evidence.holds <= ALPHA for evidence in by_generation
    )
    return replace(
        worst,
        where=where,
        holds=holds,
        fails=fails,
        exact=exact,
        exact_at=min(by_generation, key=lambda evidence: evidence.exact).generation,
        before=f"{'fails' if failing else 'holds'} at {agreeing} of the {looks} generations {first} to {last}; "
        f"worst at {worst.generation}: ",
        corrections=(*worst.corrections, *([f"{looks} generations"] if looks > 1 else [])),
    )


def _at(expected: Expectation, metric: str, generation: int, results: Results, looks: int = 1) -> Evidence:
    """The evidence at one generation, one of `looks` that are tested."""
    where = f"{metric} at generation {generation}"
    try:
        compared = compare(expected, metric, generation, results, looks)
    except MissingFiguresError as why:
        return Evidence(where, str(why), generation=generation)
    left, right, shown = compared.picked
    evidence = Evidence(
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
        return replace(evidence, why=_not_finite(expected, generation, results))
    if shown.n < 2:
        return replace(evidence, why="one seed gives no interval: add seeds")
    if expected.within is not None:
        evidence = replace(evidence, why=_doubt(contrasts, equal=True))
        return _equivalent(evidence, compared, expected.within / 100, _with_theory(expected))
    below, above = compared.together(Contrast.p)
    holds, fails = (below, above) if expected.relation == "<" else (above, below)
    return replace(evidence, holds=_two_sided(holds), fails=_two_sided(fails), why=_doubt(contrasts))


def _equivalent(evidence: Evidence, compared: Compared, part: float, exact: bool) -> Evidence:
    """Equal up to a share `part` of right: holds if significantly above the band's lower end and below its upper end,
    fails if significantly below the lower or above the upper end."""
    low = compared.together(lambda pair: pair.near(part)[0])
    high = compared.together(lambda pair: pair.near(part)[1])
    assert evidence.shown is not None
    return replace(
        evidence,
        holds=_two_sided(max(low.above, high.below)),
        fails=_two_sided(min(low.below, high.above)),
        exact=_two_sided(min(compared.together(Contrast.p))) if exact else 1.0,
        margin=part * abs(evidence.shown.right_mean),
    )


def _with_theory(expected: Expectation) -> bool:
    return any(isinstance(side.term, Theory) for side in (expected.left, expected.right))


def _two_sided(p: float) -> float:
    return min(1.0, 2 * p)


def _doubt(contrasts: Sequence[Contrast], *, equal: bool = False) -> str:
    """Why these seeds decide nothing, whatever their difference; "" if they may. `equal`: for claims with "="."""
    if not all(pair.trusted for pair in contrasts):
        return "the seeds are so skewed that a few dominate the mean, and no test of it is reliable"
    if not any(pair.blunt for pair in contrasts):
        return ""
    if contrasts[0].n < LEAST:
        return f"{contrasts[0].n} seeds without scatter are not conclusive: at least {LEAST} are needed"
    if equal or not all(pair.blunt and pair.unresolved for pair in contrasts):
        return ""
    gap = max(abs(pair.difference.mean) for pair in contrasts)
    return "both sides are equal for every seed" if gap == 0 else "that is less than the metric can resolve"


def _not_finite(expected: Expectation, generation: int, results: Results) -> str:
    """Why a difference is not finite: with the diverged fits of the compared arms, if there are any."""
    arms_at = [arm_at for side in (expected.left, expected.right) for arm_at in side.arms]
    last_generation: Mapping[str, int] = {
        arm_at.arm: generation if arm_at.generation is None else arm_at.generation for arm_at in arms_at
    }
    until = {
        arm: {seed: k for seed, k in results.diverged.get(arm, {}).items() if k <= last}
        for arm, last in last_generation.items()
    }
    return "; ".join(["not every score is finite", *divergences(replace(results, diverged=until), until)])


def interval_text(evidence: Evidence) -> str:
    """ "a - b = -1.000, interval -1.248 to -0.7516"; without the interval if there is none."""
    assert evidence.shown is not None
    difference, (left, right) = evidence.shown.difference, evidence.names
    text = f"{left} - {right} = {figure(difference.mean)}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text}, interval {figure(difference.low)} to {figure(difference.high)}"
