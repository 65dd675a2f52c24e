"""Which definitions of model collapse each arm meets. The rules, their margin and error rates: docs/definitions.md.

Schaeffer et al. (arXiv 2503.03150) collect the definitions in use, which can contradict each other; so each has a
verdict of its own. A definition is decided by the metrics that declare to measure its aspect (metrics/aspects.py): the
last generation is compared with generation 0 of the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from collapse_sim.analysis.contrast import adjusted
from collapse_sim.analysis.evidence import ALPHA
from collapse_sim.analysis.from_generation_0 import Change, change_of
from collapse_sim.analysis.intervals import share
from collapse_sim.analysis.numbers import figure, finite
from collapse_sim.analysis.rates import rate_of
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_intervals import CAVEAT
from collapse_sim.analysis.scaling import Scaling, scaling_by_arm
from collapse_sim.metrics.aspects import Aspect

Definition = Literal[
    "rising loss", "unbounded loss", "shrinking variance", "lost tail", "lost modes", "drift", "slower scaling"
]
DefinitionStatus = Literal["seen", "not seen", "undecided", "not measured"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)
MARGIN = 0.05  # a share of generation 0's mean: less than this is "not seen"

_ASPECTS: Mapping[Definition, Aspect] = {
    "rising loss": "risk",
    "shrinking variance": "variance",
    "lost tail": "tail",
    "lost modes": "modes",
    "drift": "drift",
}


@dataclass(frozen=True)
class DefinitionVerdict:
    """One arm by one definition, with the figures of the metric that decided, or that came nearest to deciding."""

    arm: str
    definition: Definition
    status: DefinitionStatus
    metric: str | None = None
    figure: float | None = None  # the change from generation 0 to the last, in the metric's unit
    low: float | None = None  # its 95 % interval
    high: float | None = None
    p: float | None = None  # two-sided, of the status or of the nearest one, corrected for metrics and arms
    rule: str = ""  # the rule in words
    note: str = ""
    generation: int | None = None  # the last one
    before: float | None = None  # the metric's mean at generation 0
    after: float | None = None  # and at the last generation
    relative: float | None = None  # figure as a share of `before`; None if that may be 0
    per_generation: bool = False  # "unbounded loss": figure is a rate (rates.py), a share if it is `relative`
    seeds: int = 0
    rows: int = 0  # held-out rows that decided, in a run of one seed
    metrics: tuple[str, ...] = ()  # all that measure the definition


def rules(margin: float = MARGIN) -> dict[Definition, str]:
    """The rule of every definition in words."""
    level, within = f"{100 * ALPHA:g} %", f"{100 * margin:g} % of generation 0's mean"
    rule: Mapping[Definition, tuple[str, str]] = {
        "rising loss": ("a test loss", "rises"),
        "shrinking variance": ("a variance or another measure of spread", "falls"),
        "lost tail": ("a measure of the tail", "falls"),
        "lost modes": ("a measure of the modes", "falls"),
        "drift": ("a distance from the real distribution", "grows"),
    }
    by_change: dict[Definition, str] = {
        definition: f"seen if {what} {moves} from generation 0 to the last, paired by seed ({level}, Holm over arms); "
        f"not seen if each {moves} by less than {within}"
        for definition, (what, moves) in rule.items()
    }
    return {
        "rising loss": by_change.pop("rising loss"),
        "unbounded loss": f"seen if the loss rises, and curves that keep going predict left-out seeds better than "
        f"curves that level off ({level}, Holm over arms); not seen if it levels off, or if rising loss is not seen",
        **by_change,
        "slower scaling": f"seen if the loss falls less with more data at the last generation than at generation 0, as "
        f"the exponent of a power law, paired by seed ({level}, Holm); not seen if the exponent loses less than "
        f"{100 * margin:g} %",
    }


def definition_verdicts(results: Results, margin: float = MARGIN) -> list[DefinitionVerdict]:
    """The verdict of every arm by every definition, arm by arm, definitions in the order of DEFINITIONS."""
    in_words = rules(margin)
    by_definition: dict[Definition, dict[str, DefinitionVerdict]] = {
        definition: _decided(_drafts(results, definition, aspect, margin)) for definition, aspect in _ASPECTS.items()
    }
    by_definition["unbounded loss"] = _unbounded(results, by_definition["rising loss"])
    by_definition["slower scaling"] = _decided(
        [_scaling_draft(results, arm, scaling) for arm, scaling in scaling_by_arm(results, margin).items()]
    )
    return [
        replace(by_definition[definition][arm], rule=in_words[definition])
        for arm in results.arms
        for definition in DEFINITIONS
    ]


def definitions_document(verdicts: Sequence[DefinitionVerdict]) -> list[dict[str, Any]]:
    """The entries of `compare --definitions --json`."""
    return [asdict(verdict) for verdict in verdicts]


class _Tested(NamedTuple):
    """A verdict before the correction across arms, with two-sided p values that it is seen and that it is not."""

    verdict: DefinitionVerdict
    seen: float = 1.0
    absent: float = 1.0
    below_margin: str = ""  # note if it is seen


def _decided(drafts: Sequence[_Tested]) -> dict[str, DefinitionVerdict]:
    """{arm: verdict}, corrected over the arms that have figures (Holm). Seen comes first: a change may be significant
    and yet below the margin."""
    verdicts = {draft.verdict.arm: draft.verdict for draft in drafts}
    tested = [draft for draft in drafts if draft.verdict.p is not None]
    of_seen, of_absent = (adjusted(values) for values in ([d.seen for d in tested], [d.absent for d in tested]))
    for draft, seen, absent in zip(tested, of_seen, of_absent, strict=True):
        status: DefinitionStatus = "seen" if seen <= ALPHA else "not seen" if absent <= ALPHA else "undecided"
        p = {"seen": seen, "not seen": absent}.get(status, min(seen, absent))
        notes = [draft.below_margin if status == "seen" else "", draft.verdict.note]
        note = "; ".join(text for text in notes if text)
        verdicts[draft.verdict.arm] = replace(draft.verdict, status=status, p=p, note=note)
    return verdicts


def _drafts(results: Results, definition: Definition, aspect: Aspect, margin: float) -> list[_Tested]:
    metrics = [name for name, aspects in results.measures.items() if aspect in aspects and name in results.metrics]
    return [_draft(results, arm, definition, metrics, margin) for arm in results.arms]


def _draft(results: Results, arm: str, definition: Definition, metrics: Sequence[str], margin: float) -> _Tested:
    """Seen if the metrics together show it; not seen if each excludes it."""
    bare = DefinitionVerdict(arm, definition, "not measured", metrics=tuple(metrics))
    if not metrics:
        return _Tested(replace(bare, note=_unmeasured(results)))
    changes = [change for metric in metrics if (change := change_of(results, arm, metric, margin)) is not None]
    if not changes:
        return _Tested(replace(bare, note="no generation after generation 0 is scored yet"))
    seen = _simes([change.seen for change in changes])
    absent = max(change.absent for change in changes)
    shows = seen <= max(ALPHA, absent)
    deciding = min(changes, key=lambda c: c.seen) if shows else max(changes, key=lambda c: c.absent)
    difference = deciding.difference
    verdict = replace(
        bare,
        status="undecided",
        metric=deciding.metric,
        figure=finite(difference.mean),
        low=difference.low,
        high=difference.high,
        p=None if all(change.why for change in changes) else min(seen, absent),
        note="; ".join(_notes(deciding, results.last_of(arm))),
        generation=deciding.generation,
        before=finite(deciding.before.mean),
        after=finite(deciding.before.mean + difference.mean),
        relative=share(difference, deciding.before) if deciding.has_margin else None,
        seeds=1 if deciding.rows else difference.n,
        rows=deciding.rows,
    )
    small = verdict.relative is not None and abs(verdict.relative) < margin
    return _Tested(
        verdict, seen, absent, f"significant, and less than the margin of {100 * margin:g} %" if small else ""
    )


def _simes(p_values: Sequence[float]) -> float:
    """The p value that none of several metrics changes (Simes 1986): the least of m p_i / i over the sorted ones.

    Valid if they are independent or positively dependent, like metrics of the same samples.
    """
    m = len(p_values)
    return min(1.0, *(m * p / i for i, p in enumerate(sorted(p_values), start=1)))


def _unmeasured(results: Results) -> str:
    if results.measures:
        return "no metric of the run measures it"
    return (
        "run.json does not say what its metrics measure: `run` with the same recipe adds that, and fits nothing again"
    )


def _notes(change: Change, last: int) -> list[str]:
    notes = [change.why] if change.why else []
    if not change.why and not change.has_margin:
        notes.append("generation 0's mean may be 0, so no share of it is a margin")
    if change.rows:
        notes.append(CAVEAT)
    if change.generation < last:
        notes.append(f"generation {change.generation} of {last} so far")
    return notes


def _unbounded(results: Results, rising: Mapping[str, DefinitionVerdict]) -> dict[str, DefinitionVerdict]:
    """By the shape of the losses that rise; a loss that does not rise is not unbounded."""
    shaped: list[_Tested] = []
    others: dict[str, DefinitionVerdict] = {}
    for arm, verdict in rising.items():
        own = replace(verdict, definition="unbounded loss", per_generation=True)
        rate = None if verdict.metric is None else rate_of(results, arm, verdict.metric)
        if rate is not None:
            own = replace(own, figure=rate.slope, low=rate.low, high=rate.high)
            own = replace(own, relative=rate.slope if rate.relative else None)
        if verdict.status != "seen" or rate is None:
            others[arm] = own
            continue
        note = rate.note or (f"levels off near {figure(rate.limit)}" if rate.limit is not None else "")
        own = replace(own, status="undecided", p=rate.shape_p, note=note)
        p = 1.0 if rate.shape_p is None else rate.shape_p
        open_p = p if p > ALPHA else 1.0  # of the shapes that these seeds do not show
        going, levelling = (p if rate.shape == shape else open_p for shape in ("keeps going", "levels off"))
        shaped.append(_Tested(own, going, levelling))
    return {**others, **_decided(shaped)}


def _scaling_draft(results: Results, arm: str, scaling: Scaling | None) -> _Tested:
    bare = DefinitionVerdict(arm, "slower scaling", "not measured")
    if scaling is None:
        return _Tested(replace(bare, note="takes the same arm at three sizes of the real data or more"))
    difference = scaling.contrast.difference
    verdict = replace(
        bare,
        status="undecided",
        metric=scaling.metric,
        figure=finite(difference.mean),
        low=difference.low,
        high=difference.high,
        p=min(scaling.seen, scaling.absent),
        note=f"exponent of the loss over {', '.join(f'{size:,}' for size in scaling.sizes)} real rows",
        generation=scaling.generation,
        before=scaling.contrast.right_mean,
        after=scaling.contrast.left_mean,
        relative=None,
        seeds=scaling.contrast.n,
        metrics=(scaling.metric,),
    )
    return _Tested(verdict, scaling.seen, scaling.absent)
