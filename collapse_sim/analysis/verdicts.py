"""Whether a claim holds, by the seeds at hand. The rules and their reasons are in docs/analysis.md.

Directional (A < B): the 95 % Student-t interval of the paired differences A - B lies wholly on the claimed side
(holds), wholly on the other (fails), or contains 0 (undecided). Equivalence (A = B within p %): that interval lies
wholly inside +- p % of B's mean (holds), wholly outside (fails), or neither (undecided). Theory (A = theory within
s se): the mean is at most s standard errors from it (holds) or more (fails). One seed decides nothing, but for
directional claims by its held-out rows (row_intervals.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from collapse_sim.analysis.claims import Expectation, Theory, parse
from collapse_sim.analysis.numbers import figure
from collapse_sim.analysis.reached import common, ended, generations_of
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_intervals import CAVEAT, decided
from collapse_sim.analysis.sides import Compared, MissingFiguresError, compare

Status = Literal["holds", "fails", "undecided"]
_SEVERITY: Mapping[Status, int] = {"holds": 0, "undecided": 1, "fails": 2}

_ROUNDING = 1e-12  # relative


class Stated(Protocol):
    """A claim as the recipe states it."""

    @property
    def that(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def generation(self) -> int | Literal["last", "every"]: ...
    @property
    def expect(self) -> str: ...


@dataclass(frozen=True)
class Verdict:
    """A decision, why, and the figures it was made from."""

    status: Status
    reason: str
    definition: str  # metric, generation, test and number of seeds
    generation: int | None = None  # the one that decided: of `every`, the worst
    n: int = 0  # seeds that both sides have
    left: float | None = None  # mean of the left side over these seeds, its factor multiplied in
    right: float | None = None
    difference: float | None = None  # left - right
    low: float | None = None  # 95 % interval of the difference
    high: float | None = None
    rows: int = 0  # held-out rows that decided, in a run of one seed
    margin: float | None = None  # what "=" allows, in the metric's unit
    caveats: tuple[str, ...] = ()
    strain: float = math.inf  # how near to failing, to find the worst generation


def decide(claim: Stated, results: Results) -> Verdict:
    """Decide one claim. What cannot be decided (a missing score, one seed ...) is "undecided", never an error."""
    try:
        expected = parse(claim.expect)
    except ValueError as problem:
        return Verdict("undecided", str(problem), f"{claim.metric} at generation {claim.generation}")
    if isinstance(claim.generation, int):
        return _at(expected, claim.metric, claim.generation, results)
    last, caveats = _last(expected, claim.metric, results)
    if claim.generation == "every":
        verdict = _at_every(expected, claim.metric, results, last)
    else:
        verdict = _at(expected, claim.metric, last, results)
    return replace(verdict, caveats=verdict.caveats + caveats)


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


def _at_every(expected: Expectation, metric: str, results: Results, last: int) -> Verdict:
    """The worst of all generations' verdicts. Arms share generation 0, so it counts only in comparisons with theory."""
    first = 0 if any(isinstance(side.term, Theory) for side in (expected.left, expected.right)) else 1
    verdicts = [_at(expected, metric, k, results) for k in range(first, last + 1)]
    if not verdicts and results.generations > last:
        return _at(expected, metric, first, results)
    if not verdicts:
        return Verdict(
            "undecided", "the run ends at generation 0, which all arms share", f"{metric} at every generation"
        )
    worst = max(verdicts, key=lambda verdict: (_SEVERITY[verdict.status], verdict.strain))
    alike = sum(verdict.status == worst.status for verdict in verdicts)
    summary = f"{worst.status} at {alike} of the {len(verdicts)} generations {first} to {last}"
    return replace(worst, reason=f"{summary}; worst at {worst.generation}: {worst.reason}")


def _at(expected: Expectation, metric: str, generation: int, results: Results) -> Verdict:
    definition = f"{metric} at generation {generation}"
    try:
        compared = compare(expected, metric, generation, results)
    except MissingFiguresError as why:
        return Verdict("undecided", str(why), definition, generation)
    found = compared.difference
    test = "paired differences" if compared.paired else "difference to a fixed value"
    verdict = Verdict(
        "undecided",
        f"{compared.left} - {compared.right} = {figure(found.mean)}",
        f"{definition}; {test} over {found.n} seed{'s' * (found.n > 1)}",
        generation,
        found.n,
        compared.left_mean,
        compared.right_mean,
        found.mean,
        found.low,
        found.high,
        caveats=(*compared.caveats, *([results.warnings[metric]] if metric in results.warnings else [])),
    )
    if found.se is None:
        rows = decided(expected, metric, generation, results, verdict.reason, f"{definition}; {test}")
        if rows is not None:
            return replace(verdict, **rows, caveats=(*verdict.caveats, CAVEAT))
        why_not = (
            "one seed gives no interval: add seeds" if found.finite else _not_finite(expected, generation, results)
        )
        return replace(verdict, reason=f"{verdict.reason}; {why_not}")
    within = expected.within
    if within is not None and within.unit == "se":
        return _near(verdict, found.se, within.amount)
    verdict = replace(verdict, definition=f"{verdict.definition}, 95 % Student-t interval")
    if within is not None:
        return _equivalent(verdict, compared, within.amount)
    return _directional(verdict, found.se, -1 if expected.relation == "<" else 1)


def _not_finite(expected: Expectation, generation: int, results: Results) -> str:
    """Why a difference is not a number: which fits of the arms that are compared diverged, if that is it."""
    at = [at for side in (expected.left, expected.right) for at in side.arms]
    reached = {a.arm: generation if a.generation is None else a.generation for a in at}
    until = {
        arm: {seed: k for seed, k in results.diverged.get(arm, {}).items() if k <= last}
        for arm, last in reached.items()
    }
    return "; ".join(["not every score is finite", *ended(replace(results, diverged=until), until)])


def _directional(verdict: Verdict, se: float, sign: Literal[-1, 1]) -> Verdict:
    """`sign`: of the difference that is claimed."""
    difference, low, high = _figures(verdict)
    strain = -sign * (difference / se if se else math.copysign(math.inf, difference))
    reason = f"{verdict.reason}, interval {_span(low, high)}"
    if low == high == 0:
        return replace(verdict, status="fails", reason=f"{reason}: both sides are equal for every seed", strain=strain)
    if low <= 0 <= high:
        return replace(verdict, reason=f"{reason}: contains 0, so these seeds do not tell", strain=strain)
    side = "above" if low > 0 else "below"
    status: Status = "holds" if (sign > 0) == (low > 0) else "fails"
    return replace(verdict, status=status, reason=f"{reason}: wholly {side} 0", strain=strain)


def _equivalent(verdict: Verdict, compared: Compared, percentage: float) -> Verdict:
    _, low, high = _figures(verdict)
    margin = percentage / 100 * abs(compared.right_mean)
    strain = max(abs(low), abs(high)) / margin if margin else math.inf
    verdict = replace(verdict, margin=margin, strain=strain)
    reason = f"{verdict.reason}, interval {_span(low, high)}"
    band = f"{_span(-margin, margin)} ({percentage:g} % of {compared.right})"
    if -margin <= low and high <= margin:
        return replace(verdict, status="holds", reason=f"{reason}: wholly inside {band}")
    if high < -margin or low > margin:
        return replace(verdict, status="fails", reason=f"{reason}: wholly outside {band}")
    return replace(verdict, reason=f"{reason}: only partly inside {band}, so these seeds do not tell")


def _near(verdict: Verdict, se: float, limit: float) -> Verdict:
    difference, _, _ = _figures(verdict)
    away = abs(difference) / se if se else math.inf
    if abs(difference) <= _ROUNDING * abs(verdict.right or 0.0):
        away = 0.0  # scores without scatter that equal the theory up to rounding
    return replace(
        verdict,
        status="holds" if away <= limit else "fails",
        reason=f"{verdict.reason}, which is {away:.2f} standard errors of {figure(se)}; {limit:g} are allowed",
        definition=f"{verdict.definition}, {limit:g} standard errors",
        margin=limit * se,
        strain=away,
    )


def _figures(verdict: Verdict) -> tuple[float, float, float]:
    assert verdict.difference is not None
    assert verdict.low is not None
    assert verdict.high is not None
    return verdict.difference, verdict.low, verdict.high


def _span(low: float, high: float) -> str:
    return f"{figure(low)} to {figure(high)}"
