"""Specs of curations: what is kept of the generated rows before a model is fitted to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collapse_sim.core.plugins import described, plugin_errors
from collapse_sim.data.sources import Plan
from collapse_sim.families.base import ModelFamily
from collapse_sim.plan.specs import DataSpec, FitSpec, ModelSpec, SampleSpec, SourcesKey, fit_spec, sample_spec
from collapse_sim.remedies.base import AveragesLosses, Curation, HasVerifier, KeepsAll, Verifier
from collapse_sim.store.spec import Spec


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolSpec(Spec):
    """Candidates, and what they may be judged by (remedies.base.Pool).

    The candidates are several draws of one generation or, under `pool: past`, what a strategy offers to the next fit.
    """

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

    @property
    def loss_draws(self) -> int:
        """How many draws of the family's noise a candidate's loss is the mean of."""
        return 1


@dataclass(frozen=True, eq=False, kw_only=True)
class VerifierSpec(PoolSpec):
    """A fitted verifier: of all generations, and of all arms whose generation 0 has these samples, which are its
    candidates."""

    verifier: Verifier


@dataclass(frozen=True, eq=False, kw_only=True)
class CurationSpec(PoolSpec):
    """What a curation keeps of its candidates: an index, and weights or changed rows if the curation gives them."""

    curation: Curation
    rows: int  # kept rows
    verified_by: VerifierSpec | None

    @property
    def parents(self) -> tuple[Spec, ...]:
        return (*super().parents, *([self.verified_by] if self.verified_by else []))

    @property
    def loss_draws(self) -> int:
        return self.curation.loss_draws if isinstance(self.curation, AveragesLosses) else 1


def keeps_all(curation: Curation | None) -> bool:
    """Whether each generation's samples stay as they are, so that a plan without the curation has the same bytes."""
    if curation is None:
        return True
    with plugin_errors(curation, "keeps_all"):
        return curation.pool == "generation" and isinstance(curation, KeepsAll) and curation.keeps_all


def verifier_of(curation: Curation | None, samples: SampleSpec, origin: FitSpec) -> VerifierSpec | None:
    """What a curation judges by, fitted to generation 0's `samples`; None if it does not, or keeps all rows."""
    if curation is None or keeps_all(curation):
        return None
    with plugin_errors(curation, "verifier"):
        verifier = curation.verifier if isinstance(curation, HasVerifier) else None
    if verifier is None:
        return None
    data = origin.data
    description = {
        "verifier": described(verifier),
        "generation": origin.generation,
        "data": data.digest,
        "real": data.info.rows,
        "samples": samples.digest,
        "origin": origin.digest,
    }
    return VerifierSpec(
        "verifier", origin.generation, description, origin.seeded, origin.stacked,
        verifier=verifier, draws=(samples,), offer=None, model=samples.model, origin=origin,
    )  # fmt: skip


def candidates_for(curation: Curation, rows: int) -> int:
    """How many candidates a curation needs to keep `rows`. Raises ValueError for fewer than these."""
    with plugin_errors(curation, "candidates"):
        candidates = curation.candidates(rows)
    if not isinstance(candidates, int) or isinstance(candidates, bool) or candidates < rows:
        raise ValueError(f"it asks for {candidates!r} candidates; needed: at least the {rows} rows that are kept")
    return candidates


def curation_of_samples(
    curation: Curation, samples: SampleSpec, shard: int, origin: FitSpec, verified_by: VerifierSpec | None = None
) -> CurationSpec:
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
    return _spec(curation, samples.rows, key, tuple(draws), None, samples.model, origin, verified_by)


def curation_of_past(
    curation: Curation,
    family: ModelFamily,
    plan: Plan,
    data: DataSpec,
    past: Mapping[int, SampleSpec | CurationSpec],
    newest: ModelSpec,
    origin: FitSpec,
    sources: SourcesKey,
    verified_by: VerifierSpec | None = None,
) -> CurationSpec:
    """The rows of the fit after `newest`: `plan.budget` of those that the plan's sources offer."""
    offered = plan._replace(budget=None)
    offer = fit_spec(newest.generation + 1, family, None, offered, data, past, key=sources)
    key = {"offer": sources.of(offered.sources), "columns": list(family.columns)}
    return _spec(curation, plan.rows, key, (), offer, newest, origin, verified_by)


def _spec(
    curation: Curation,
    rows: int,
    candidates: dict[str, Any],
    draws: tuple[SampleSpec, ...],
    offer: FitSpec | None,
    model: ModelSpec,
    origin: FitSpec,
    verified_by: VerifierSpec | None,
) -> CurationSpec:
    description = {
        "curation": described(curation),
        "rows": rows,
        "generation": model.generation,
        "data": model.data.digest,
        "real": model.data.info.rows,
        "model": model.digest,
        "origin": origin.digest,
        **({"verifier": verified_by.digest} if verified_by else {}),
        **candidates,
    }
    return CurationSpec(
        "curation", model.generation, description, True, model.stacked,
        curation=curation, rows=rows, draws=draws, offer=offer, model=model, origin=origin, verified_by=verified_by,
    )  # fmt: skip
