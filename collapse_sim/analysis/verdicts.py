"""Whether claims hold, by the seeds at hand. Rules, reasons and measured errors are in docs/analysis.md.

Directional (A < B): a t test of the paired differences says that A is below B (holds) or above it (fails). Equivalence
(A = B within p %, and so A = theory within p %): A is surely nearer than p % of B (holds), surely farther (fails).
Otherwise, and by one seed, undecided. A verdict is wrong in less than 5 % of experiments, over all generations that it
speaks of, all arms that it chooses from, and all claims that compare arms with one arm by one metric.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from collapse_sim.analysis.by_protocol import baselines
from collapse_sim.analysis.contrast import adjusted
from collapse_sim.analysis.evidence import ALPHA, Evidence, gather, interval_text
from collapse_sim.analysis.numbers import figure, probability
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_intervals import CAVEAT, decided
from collapse_sim.recipe.claims import ArmAt, Expectation, parse
from collapse_sim.ui import formatting

Status = Literal["holds", "fails", "undecided"]
Kind = Literal["confirmatory", "exploratory"]
SHARP = 0.01  # a p value below which a closed form is said to be near, yet not equal
_NAMED = 10  # seeds that are named one by one


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
    """A decision, why, and the figures it was made from."""

    status: Status
    reason: str
    definition: str  # metric, generation, test, seeds, level and what it accounts for
    generation: int | None = None  # the one that decided: of `every`, the worst
    n: int = 0  # seeds that both sides have
    left: float | None = None  # mean of the left side over these seeds, its factor multiplied in
    right: float | None = None
    difference: float | None = None  # left - right
    low: float | None = None  # 95 % interval of the difference, of this generation and these two sides alone
    high: float | None = None
    margin: float | None = None  # what "=" allows, in the metric's unit
    p: float | None = None  # two-sided, of the verdict or of what comes nearest to one, with all corrections
    corrections: tuple[str, ...] = ()  # what the p value accounts for beside one test
    seeds: tuple[int, ...] = ()  # those it was decided by
    kind: Kind | None = None  # None: the recipe does not say which seeds it was tuned on
    caveats: tuple[str, ...] = ()
    rows: int = 0  # held-out rows that decided, in a run of one seed
    protocols: tuple[str, ...] = ()  # that the claim's arms are trained under; () where nothing is trained


@dataclass(frozen=True)
class _Draft:
    """A claim's evidence, and which other claims it is corrected with."""

    claim: Stated
    expected: Expectation
    found: Evidence
    kind: Kind | None
    caveats: tuple[str, ...]

    def family(self, baselines: Collection[str]) -> tuple[object, ...] | None:
        """What a claim that compares arms compares them with, by which metric, where and by which seeds."""
        against = _against(self.expected, baselines)
        claim = self.claim
        return None if against is None or self.found.why else (claim.metric, claim.generation, claim.seeds, against)


def decide(claim: Stated, results: Results) -> Verdict:
    """Decide one claim by itself. What cannot be decided (a missing score ...) is "undecided", never an error."""
    return decide_all([claim], results)[0]


def decide_all(claims: Sequence[Stated], results: Results) -> list[Verdict]:
    """Decide the claims of a recipe.

    Claims that compare arms with one arm, by one metric at one generation, are a family and corrected together (Holm).
    """
    drafts = [_draft(claim, results) for claim in claims]
    families: dict[tuple[object, ...], list[int]] = {}
    of_protocols = set(baselines(results).values())
    for i, draft in enumerate(drafts):
        family = None if isinstance(draft, Verdict) else draft.family(of_protocols)
        if family is not None:
            families.setdefault(family, []).append(i)
    found = [draft if isinstance(draft, Verdict) else _verdict(draft, results) for draft in drafts]
    for family, members in families.items():
        if len(members) > 1:
            own = [draft for i in members if isinstance(draft := drafts[i], _Draft)]
            least = adjusted([min(draft.found.holds, draft.found.fails) for draft in own])
            for i, draft, p in zip(members, own, least, strict=True):
                found[i] = _verdict(_corrected(draft, p, len(members), str(family[-1])), results)
    return [_with_protocol(verdict, draft, results) for verdict, draft in zip(found, drafts, strict=True)]


def _with_protocol(verdict: Verdict, draft: _Draft | Verdict, results: Results) -> Verdict:
    """With the protocol that the claim's arms are trained under, which their order may depend on (protocol.py)."""
    arms = draft.expected.arms if isinstance(draft, _Draft) else ()
    named = [results.protocol_of(arm) for arm in results.arms if arm in arms]
    protocols = tuple(dict.fromkeys(name for name in named if name is not None))
    if not protocols:
        return verdict
    definition = f"{verdict.definition}; protocol: {', '.join(protocols)}"
    return replace(verdict, definition=definition, protocols=protocols)


def _against(expected: Expectation, baselines: Collection[str]) -> str | None:
    """The arm that a directional claim compares with: a protocol's baseline where a side is one, or else the right
    side's.

    None where an arm is compared with itself at another generation, with a number or theory, or min with max: such a
    claim stands by itself.
    """
    sides = (expected.right.term, expected.left.term)
    if expected.relation == "=" or len(expected.arms) < 2 or not all((expected.left.arms, expected.right.arms)):
        return None
    single = [term for term in sides if isinstance(term, ArmAt)]
    own = (term for term in single if term.generation is None and term.arm in baselines)
    chosen = next(own, single[0] if single else None)
    if chosen is None:
        return None
    return chosen.arm if chosen.generation is None else f"{chosen.arm}@{chosen.generation}"


def _corrected(draft: _Draft, p: float, members: int, against: str) -> _Draft:
    """With the p value that Holm gives it in its family; of holding and failing, the likelier one."""
    found = draft.found
    holds, fails = (p, 1.0) if found.holds <= found.fails else (1.0, p)
    said = f"{members} claims against {against} (Holm)"
    return replace(draft, found=replace(found, holds=holds, fails=fails, corrections=(*found.corrections, said)))


def _draft(claim: Stated, results: Results) -> _Draft | Verdict:
    try:
        expected = parse(claim.expect)
    except ValueError as problem:
        return Verdict("undecided", str(problem), f"{claim.metric} at generation {claim.generation}")
    seeds, kind = seeds_of(claim, results)
    found, caveats = gather(expected, claim.metric, claim.generation, results.only(seeds))
    return _Draft(claim, expected, found, kind, caveats)


def seeds_of(claim: Stated, results: Results) -> tuple[tuple[int, ...], Kind | None]:
    """The seeds that decide a claim: its own, or those that the recipe was not tuned on, or where there are no others
    all; and whether settings were chosen by any of them."""
    tuned = results.tuned_on
    if claim.seeds is not None:
        seeds = tuple(seed for seed in results.seeds if seed in claim.seeds)
    else:
        seeds = tuple(seed for seed in results.seeds if seed not in (tuned or ())) or results.seeds
    if tuned is None:
        return seeds, None
    return seeds, "exploratory" if set(seeds) & set(tuned) else "confirmatory"


def _verdict(draft: _Draft, results: Results) -> Verdict:
    found, metric = draft.found, draft.claim.metric
    status: Status = "undecided"
    if not found.why:
        status = "holds" if found.holds <= ALPHA else "fails" if found.fails <= ALPHA else "undecided"
    shown = found.shown
    if shown is None:
        return Verdict(status, found.before + found.why, found.where, found.generation, caveats=draft.caveats)
    difference = shown.difference
    by_rows = _by_rows(draft, results) if shown.n == 1 else None
    if by_rows is not None:
        return by_rows
    p = None if found.why else min(found.holds, found.fails)
    tail = found.why or f"{_tail(draft, status)} ({probability(p or 0.0)})"
    joined = "; " if difference.low is None else ": "
    return Verdict(
        status,
        f"{found.before}{interval_text(found)}{joined}{tail}",
        _definition(draft),
        found.generation,
        shown.n,
        shown.left_mean,
        shown.right_mean,
        difference.mean,
        difference.low,
        difference.high,
        found.margin,
        p,
        found.corrections,
        found.seeds,
        draft.kind,
        (*([results.warnings[metric]] if metric in results.warnings else []), *draft.caveats, *_notes(draft)),
    )


def _by_rows(draft: _Draft, results: Results) -> Verdict | None:
    """In a run of one seed, by its held-out rows; None where these say nothing either."""
    found, shown = draft.found, draft.found.shown
    if shown is None or found.generation is None or draft.claim.generation == "every":
        return None
    reason = f"{' - '.join(found.names)} = {figure(shown.difference.mean)}"
    fields = decided(
        draft.expected, draft.claim.metric, found.generation, results, reason, f"{found.where}; paired rows"
    )
    if fields is None:
        return None
    verdict = Verdict(
        "undecided", "", "", found.generation, 1, shown.left_mean, shown.right_mean, shown.difference.mean
    )
    return replace(verdict, **fields, seeds=found.seeds, kind=draft.kind, caveats=(*draft.caveats, CAVEAT))


def _definition(draft: _Draft) -> str:
    """Metric, generation, test, seeds, level, and what the level accounts for."""
    found = draft.found
    together = f" over {_listed(found.corrections)}" if found.corrections else ""
    return f"{found.where}; {found.test} over {_over(found.seeds, draft.kind)}; {ALPHA * 100:g} % level{together}"


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
    """What is to be known beside the verdict."""
    said, found = [], draft.found
    if found.exact <= SHARP:
        said.append(f"theory itself is ruled out at generation {found.exact_at} ({probability(found.exact)})")
    if draft.kind == "exploratory":
        said.append("exploratory: on seeds that the recipe was tuned on; other seeds can confirm it")
    return said


def _tail(draft: _Draft, status: Status) -> str:
    """What the interval says."""
    found, expected = draft.found, draft.expected
    assert found.shown is not None
    difference = found.shown.difference
    if expected.within is not None:
        assert found.margin is not None
        band = f"{figure(-found.margin)} to {figure(found.margin)} ({expected.within:g} % of {found.names[1]})"
        sure = {"holds": "inside", "fails": "outside"}.get(status)
        return f"{sure} {band}" if sure else f"these seeds do not tell whether it is inside {band}"
    if status != "undecided":
        return "below 0" if difference.mean < 0 else "above 0"
    if difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high:
        return "contains 0, so these seeds do not tell"
    return (
        "within what the metric can resolve" if found.shown.blunt else "too near to 0 for all that is tested together"
    )
