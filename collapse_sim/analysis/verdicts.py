"""Whether claims hold, given the seeds so far. Rules, reasons and measured error rates are in docs/analysis.md.

Directional (A < B): by a t test of the paired differences, A is below B (holds) or above it (fails). Equivalence
(A = B within p %, A = theory within p %): A is significantly nearer than p % of B (holds), or farther (fails).
Otherwise, and for one seed, undecided. A verdict is wrong in less than 5 % of experiments, over all generations that it
covers, all arms that it chooses from, and all claims that compare arms with one arm by one metric.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from collapse_sim.analysis.by_protocol import baselines
from collapse_sim.analysis.contrast import LEAST, adjusted
from collapse_sim.analysis.evidence import ALPHA, Evidence, gather, interval_text
from collapse_sim.analysis.numbers import figure, probability
from collapse_sim.analysis.power import in_words, seeds_needed
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_intervals import CAVEAT, verdict_fields
from collapse_sim.recipe.claims import ArmAt, Expectation, parse
from collapse_sim.ui import formatting

Status = Literal["holds", "fails", "undecided"]
Kind = Literal["confirmatory", "exploratory"]
SHARP = 0.01  # a closed form that is within the tolerance gets a note below this p value
_NAMED = 10  # at most this many seeds are listed


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
    @property
    def seeds(self) -> tuple[int, ...] | None: ...


@dataclass(frozen=True)
class Verdict:
    """A decision, its reason, and the figures behind it."""

    status: Status
    reason: str
    definition: str  # metric, generation, test, seeds, level and corrections
    generation: int | None = None  # the deciding one: for `every`, the worst
    n: int = 0  # seeds that both sides have
    left: float | None = None  # mean of the left side over these seeds, including its factor
    right: float | None = None
    difference: float | None = None  # left - right
    low: float | None = None  # 95 % interval of the difference, for this generation and these sides only
    high: float | None = None
    margin: float | None = None  # the tolerance of "=", in the metric's unit
    p: float | None = None  # two-sided, of the verdict or of the nearest one, with all corrections
    corrections: tuple[str, ...] = ()  # multiple tests that the p value accounts for
    seeds: tuple[int, ...] = ()  # the deciding ones
    kind: Kind | None = None  # None: the recipe has no `tuned_on`
    caveats: tuple[str, ...] = ()
    seeds_needed: int | None = None  # that would decide what is undecided; None: more than 1,000, or it is not known
    rows: int = 0  # held-out rows that decided, in a run of one seed
    protocols: tuple[str, ...] = ()  # of the claim's arms; () if nothing is trained


@dataclass(frozen=True)
class _Draft:
    """A claim with its evidence, before the correction across claims."""

    claim: Stated
    expected: Expectation
    evidence: Evidence
    kind: Kind | None
    caveats: tuple[str, ...]

    def family(self, baselines: Collection[str]) -> tuple[object, ...] | None:
        """The key of the claims that are corrected together; None for a claim that stands alone."""
        against = _against(self.expected, baselines)
        claim = self.claim
        return None if against is None or self.evidence.why else (claim.metric, claim.generation, claim.seeds, against)


def decide(claim: Stated, results: Results) -> Verdict:
    """Decide a single claim. If it cannot be decided (missing scores ...) it is "undecided", never an error."""
    return decide_all([claim], results)[0]


def decide_all(claims: Sequence[Stated], results: Results) -> list[Verdict]:
    """Decide the claims of a recipe.

    Claims that compare arms with the same arm, by one metric at one generation are a family, corrected together (Holm).
    """
    drafts = [_draft(claim, results) for claim in claims]
    families: dict[tuple[object, ...], list[int]] = {}
    protocol_baselines = set(baselines(results).values())
    for i, draft in enumerate(drafts):
        family = None if isinstance(draft, Verdict) else draft.family(protocol_baselines)
        if family is not None:
            families.setdefault(family, []).append(i)
    verdicts = [draft if isinstance(draft, Verdict) else _verdict(draft, results) for draft in drafts]
    for family, members in families.items():
        if len(members) > 1:
            family_drafts = [draft for i in members if isinstance(draft := drafts[i], _Draft)]
            adjusted_p = adjusted([min(draft.evidence.holds, draft.evidence.fails) for draft in family_drafts])
            for i, draft, p in zip(members, family_drafts, adjusted_p, strict=True):
                verdicts[i] = _verdict(_corrected(draft, p, len(members), str(family[-1])), results)
    return [_with_protocol(verdict, draft, results) for verdict, draft in zip(verdicts, drafts, strict=True)]


def _with_protocol(verdict: Verdict, draft: _Draft | Verdict, results: Results) -> Verdict:
    """The verdict with the protocols of the claim's arms, on which their order may depend (protocol.py)."""
    arms = draft.expected.arms if isinstance(draft, _Draft) else ()
    names = [results.protocol_of(arm) for arm in results.arms if arm in arms]
    protocols = tuple(dict.fromkeys(name for name in names if name is not None))
    if not protocols:
        return verdict
    definition = f"{verdict.definition}; protocol: {', '.join(protocols)}"
    return replace(verdict, definition=definition, protocols=protocols)


def _against(expected: Expectation, baselines: Collection[str]) -> str | None:
    """The arm that a directional claim compares with: a protocol's baseline if a side is one, otherwise the right side.

    None if an arm is compared with itself at another generation, with a number or theory, or min with max: such a claim
    stands alone.
    """
    sides = (expected.right.term, expected.left.term)
    if expected.relation == "=" or len(expected.arms) < 2 or not all((expected.left.arms, expected.right.arms)):
        return None
    single_arms = [term for term in sides if isinstance(term, ArmAt)]
    baseline_terms = (term for term in single_arms if term.generation is None and term.arm in baselines)
    chosen = next(baseline_terms, single_arms[0] if single_arms else None)
    if chosen is None:
        return None
    return chosen.arm if chosen.generation is None else f"{chosen.arm}@{chosen.generation}"


def _corrected(draft: _Draft, p: float, members: int, against: str) -> _Draft:
    """The draft with its p value adjusted within its family: that of holding or failing, whichever is smaller."""
    evidence = draft.evidence
    holds, fails = (p, 1.0) if evidence.holds <= evidence.fails else (1.0, p)
    correction = f"{members} claims against {against} (Holm)"
    return replace(
        draft, evidence=replace(evidence, holds=holds, fails=fails, corrections=(*evidence.corrections, correction))
    )


def _draft(claim: Stated, results: Results) -> _Draft | Verdict:
    try:
        expected = parse(claim.expect)
    except ValueError as problem:
        return Verdict("undecided", str(problem), f"{claim.metric} at generation {claim.generation}")
    seeds, kind = seeds_of(claim, results)
    evidence, caveats = gather(expected, claim.metric, claim.generation, results.for_seeds(seeds))
    return _Draft(claim, expected, evidence, kind, caveats)


def seeds_of(claim: Stated, results: Results) -> tuple[tuple[int, ...], Kind | None]:
    """The seeds that decide a claim (its own, or those that the recipe was not tuned on, or all if there are none), and
    whether the recipe was tuned on any of them."""
    tuned = results.tuned_on
    if claim.seeds is not None:
        seeds = tuple(seed for seed in results.seeds if seed in claim.seeds)
    else:
        seeds = tuple(seed for seed in results.seeds if seed not in (tuned or ())) or results.seeds
    if tuned is None:
        return seeds, None
    return seeds, "exploratory" if set(seeds) & set(tuned) else "confirmatory"


def _verdict(draft: _Draft, results: Results) -> Verdict:
    evidence, metric = draft.evidence, draft.claim.metric
    status: Status = "undecided"
    if not evidence.why:
        status = "holds" if evidence.holds <= ALPHA else "fails" if evidence.fails <= ALPHA else "undecided"
    shown = evidence.shown
    if shown is None:
        return Verdict(
            status, evidence.before + evidence.why, evidence.where, evidence.generation, caveats=draft.caveats
        )
    difference = shown.difference
    needed = _needed(draft) if status == "undecided" and not evidence.why else None
    by_rows = _by_rows(draft, results) if shown.n == 1 else None
    if by_rows is not None:
        return by_rows
    p = None if evidence.why else min(evidence.holds, evidence.fails)
    conclusion = evidence.why or f"{_conclusion(draft, status)} ({probability(p or 0.0)})"
    separator = "; " if difference.low is None else ": "
    return Verdict(
        status,
        f"{evidence.before}{interval_text(evidence)}{separator}{conclusion}",
        _definition(draft),
        evidence.generation,
        shown.n,
        shown.left_mean,
        shown.right_mean,
        difference.mean,
        difference.low,
        difference.high,
        evidence.margin,
        p,
        evidence.corrections,
        evidence.seeds,
        draft.kind,
        (
            *([results.warnings[metric]] if metric in results.warnings else []),
            *draft.caveats,
            *_notes(draft),
            *([f"seeds that would decide it, if the difference stays as it is: {in_words(needed)}"] if needed else []),
        ),
        None if needed is None or math.isinf(needed) else int(needed),
    )


def _needed(draft: _Draft) -> float | None:
    """The number of seeds that would decide a claim, at the level that all its corrections leave."""
    evidence, within = draft.evidence, draft.expected.within
    shown = evidence.shown
    if shown is None or shown.n < LEAST:
        return None
    if within is None:
        gaps, edges = [np.asarray(shown.left - shown.right)], [shown.p()]
    else:
        low, high = (1 - within / 100, 1 + within / 100)
        gaps = [np.asarray(shown.left - ratio * shown.right) for ratio in (low, high)]
        edges = [shown.p(ratio) for ratio in (low, high)]
        if np.sign(gaps[0].mean()) == np.sign(gaps[1].mean()):  # outside the band: the nearer edge decides
            nearer = int(np.argmin([abs(gap.mean()) for gap in gaps]))
            gaps, edges = [gaps[nearer]], [edges[nearer]]
    own = max(min(1.0, 2 * min(edge)) for edge in edges)
    corrected = min(evidence.holds, evidence.fails)
    return seeds_needed(gaps, ALPHA * min(1.0, own / corrected) if corrected > 0 else ALPHA)


def _by_rows(draft: _Draft, results: Results) -> Verdict | None:
    """The verdict by held-out rows in a run of one seed; None if they do not decide either."""
    evidence, shown = draft.evidence, draft.evidence.shown
    if shown is None or evidence.generation is None or draft.claim.generation == "every":
        return None
    reason = f"{' - '.join(evidence.names)} = {figure(shown.difference.mean)}"
    fields = verdict_fields(
        draft.expected, draft.claim.metric, evidence.generation, results, reason, f"{evidence.where}; paired rows"
    )
    if fields is None:
        return None
    verdict = Verdict(
        "undecided", "", "", evidence.generation, 1, shown.left_mean, shown.right_mean, shown.difference.mean
    )
    return replace(verdict, **fields, seeds=evidence.seeds, kind=draft.kind, caveats=(*draft.caveats, CAVEAT))


def _definition(draft: _Draft) -> str:
    """Metric, generation, test, seeds, level and corrections."""
    evidence = draft.evidence
    level = f"{ALPHA * 100:g} % level" + (f" over {_listed(evidence.corrections)}" if evidence.corrections else "")
    return f"{evidence.where}; {evidence.test} over {_over(evidence.seeds, draft.kind)}; {level}"


def _over(seeds: Sequence[int], kind: Kind | None) -> str:
    """ "3 seeds", "seeds 3, 4, 5 (confirmatory)"."""
    count = formatting.plural(len(seeds), "seed")
    if kind is None:
        return count
    named = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if len(seeds) <= _NAMED else count
    return f"{named} ({kind})"


def _listed(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([*([", ".join(parts[:-1])] if parts[:-1] else []), parts[-1]])


def _notes(draft: _Draft) -> list[str]:
    """Caveats of a verdict."""
    notes, evidence = [], draft.evidence
    if evidence.exact <= SHARP:
        notes.append(f"theory itself is ruled out at generation {evidence.exact_at} ({probability(evidence.exact)})")
    if draft.kind == "exploratory":
        notes.append("exploratory: on seeds that the recipe was tuned on; other seeds can confirm it")
    return notes


def _conclusion(draft: _Draft, status: Status) -> str:
    """The end of the reason: what follows from the interval."""
    evidence, expected = draft.evidence, draft.expected
    assert evidence.shown is not None
    difference = evidence.shown.difference
    if expected.within is not None:
        assert evidence.margin is not None
        band = f"{figure(-evidence.margin)} to {figure(evidence.margin)} ({expected.within:g} % of {evidence.names[1]})"
        position = {"holds": "inside", "fails": "outside"}.get(status)
        return f"{position} {band}" if position else f"these seeds do not decide whether it is inside {band}"
    if status != "undecided":
        return "below 0" if difference.mean < 0 else "above 0"
    if difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high:
        return "contains 0, so these seeds do not decide the claim"
    return (
        "within what the metric can resolve"
        if evidence.shown.blunt
        else "too close to 0 given everything that is tested together"
    )
