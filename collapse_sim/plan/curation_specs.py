"""Specs of curations: what is kept of the generated rows before a model is fitted to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collapse_sim.core.plugins import described, plugin_errors
from collapse_sim.data.sources import Plan
from collapse_sim.families.base import ModelFamily
from collapse_sim.plan.specs import DataSpec, FitSpec, ModelSpec, SampleSpec, SourcesKey, fit_spec, sample_spec
from collapse_sim.remedies.base import Curation, KeepsAll
from collapse_sim.store.spec import Spec


@dataclass(frozen=True, eq=False, kw_only=True)
class CurationSpec(Spec):
    """What a curation keeps of its candidates: an index, and weights or changed rows if the curation gives them.

    The candidates are several draws of one generation or, under `pool: past`, what a strategy offers to the next fit.
    """

    curation: Curation
    rows: int  # kept rows
    draws: tuple[SampleSpec, ...]  # of one generation, the scored samples first; () under `pool: past`
    offer: FitSpec | None  # the next fit as it would be without a curation: never made; None: several draws
    model: ModelSpec  # of the generation that the newest candidates are from
    origin: FitSpec  # generation 0's

    @property
    def parents(self) -> tuple[Spec, ...]:
        offered = self.offer.sources if self.offer else self.draws
        return tuple({spec.digest: spec for spec in (self.model.data, *offered, self.model, self.origin)}.values())

    @property
    def candidates(self) -> int:
        """How many rows there are to choose from."""
        return self.offer.plan.rows if self.offer else sum(draw.rows for draw in self.draws)


def keeps_all(curation: Curation | None) -> bool:
    """Whether each generation's samples stay as they are, so that a plan without the curation has the same bytes."""
    if curation is None:
        return True
    with plugin_errors(curation, "keeps_all"):
        return curation.pool == "generation" and isinstance(curation, KeepsAll) and curation.keeps_all


def candidates_for(curation: Curation, rows: int) -> int:
    """How many candidates a curation needs to keep `rows`. Raises ValueError for fewer than these."""
    with plugin_errors(curation, "candidates"):
        candidates = curation.candidates(rows)
    if not isinstance(candidates, int) or isinstance(candidates, bool) or candidates < rows:
        raise ValueError(f"it asks for {candidates!r} candidates; needed: at least the {rows} rows that are kept")
    return candidates


def curation_of_samples(curation: Curation, samples: SampleSpec, shard: int, origin: FitSpec) -> CurationSpec:
    """As many rows of a generation as it has samples, chosen from these and from further draws of the same model."""
    total, draws = candidates_for(curation, samples.rows), [samples]
    while (drawn := sum(draw.rows for draw in draws)) < total:
        rows = min(samples.rows, total - drawn)
        draws.append(
            sample_spec(
                samples.model, rows, shard, samples.conditions,
                draw=len(draws), guidance=samples.guidance, auxiliary=samples.auxiliary,
            )
        )  # fmt: skip
    key = {"candidates": [draw.digest for draw in draws]}
    return _spec(curation, samples.rows, key, tuple(draws), None, samples.model, origin)


def curation_of_past(
    curation: Curation,
    family: ModelFamily,
    plan: Plan,
    data: DataSpec,
    past: Mapping[int, SampleSpec | CurationSpec],
    newest: ModelSpec,
    origin: FitSpec,
    sources: SourcesKey,
) -> CurationSpec:
    """The rows of the fit after `newest`: `plan.budget` of those that the plan's sources offer."""
    offered = plan._replace(budget=None)
    offer = fit_spec(newest.generation + 1, family, None, offered, data, past, key=sources)
    key = {"offer": sources.of(offered.sources), "columns": list(family.columns)}
    return _spec(curation, plan.rows, key, (), offer, newest, origin)


def _spec(
    curation: Curation,
    rows: int,
    candidates: dict[str, Any],
    draws: tuple[SampleSpec, ...],
    offer: FitSpec | None,
    model: ModelSpec,
    origin: FitSpec,
) -> CurationSpec:
    description = {
        "curation": described(curation),
        "rows": rows,
        "generation": model.generation,
        "data": model.data.digest,
        "real": model.data.info.rows,
        "model": model.digest,
        "origin": origin.digest,
        **candidates,
    }
    return CurationSpec(
        "curation", model.generation, description, True, model.stacked,
        curation=curation, rows=rows, draws=draws, offer=offer, model=model, origin=origin,
    )  # fmt: skip
