"""What there is to make: one spec per artefact, for any seed. A spec's digest is the content key.

digest = sha256 of the canonical JSON of everything that determines the bytes: settings, versions, parents' digests. The
seed is the other half of an artefact's address, so that one digest serves all seeds. The digest does not include the
arm's name, the device, the number of workers or the log cadence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from collapse_sim.core.hashing import canonical_json
from collapse_sim.core.plugins import described
from collapse_sim.data.base import Data, Info, conditions_of
from collapse_sim.data.imported_rows import ImportedSeeds
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.data.split import resampled
from collapse_sim.families.base import ClosedForm, Conditioning, ModelFamily
from collapse_sim.families.hooks import conditioning_of
from collapse_sim.families.imported import GivenModel
from collapse_sim.families.training import Train
from collapse_sim.plan.settings import Criterion, layer_path
from collapse_sim.remedies.base import Guidance, Weighting
from collapse_sim.store.spec import Spec

if TYPE_CHECKING:
    from collapse_sim.plan.curation_specs import CurationSpec

LISTED = 16  # up to this many sources are listed one by one in the key of a fit


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSpec(Spec):
    """All real, validation and held-out rows, decoded: one file for each."""

    data: Data
    info: Info


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelSpec(Spec):
    """A model: a fit (FitSpec), or weights that are combined from those of fits (plan/merges.py)."""

    family: ModelFamily
    train: Train | None
    data: DataSpec

    @property
    def fitted(self) -> FitSpec:
        """The fit of its generation, to the rows that the arm's plan says."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class FitSpec(ModelSpec):
    """A fitted model. The kind "own fit" is a fit to samples of its own `init`, with random draws of its own; "import"
    is a given model in the place of the fit to the plan's rows, whose `train`, of no updates, is how it is used."""

    plan: Plan
    past: Mapping[int, SampleSpec | CurationSpec]  # the rows of earlier generations, by generation number
    teacher: ModelSpec | None
    weights: Mapping[str, float]
    init: ModelSpec | None
    curation: CurationSpec | None = None  # which of the sources' rows it takes, in place of the plan's budget
    criterion: Criterion = "mse"  # of the layers' terms
    weighting: Weighting | None = None  # None also where the arm's changes nothing
    given: GivenModel | None = None

    @property
    def fitted(self) -> FitSpec:
        return self

    @property
    def teaching(self) -> ModelFamily | None:
        """The teacher's family, if it has other settings than the student's."""
        return self.teacher.family if self.teacher and self.teacher.family != self.family else None

    @property
    def layers(self) -> tuple[str, ...]:
        """The paths of the layers whose outputs are compared with the teacher's."""
        paths = (layer_path(term) for term in self.weights)
        return tuple(sorted(path for path in paths if path is not None))

    @property
    def sources(self) -> tuple[DataSpec | SampleSpec | CurationSpec, ...]:
        """The specs of the plan's sources, in the plan's order."""
        return tuple(_source(source, self.data, self.past) for source in self.plan.sources)

    @property
    def parents(self) -> tuple[Spec, ...]:
        return (self.data, *self.sources, *(spec for spec in (self.curation, self.teacher, self.init) if spec))


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleSpec(Spec):
    """A generation's generated rows: its samples, for conditions of real rows or of rows that its model was fitted to;
    or its outputs, for conditions of held-out rows.

    With conditions of real rows, sample i is made for that of real row n - 1 - i in the seed's order, of the n that
    generation 0 is fitted to (again from the last one where conditions are reused); output i is made for that of
    held-out row i.

    Rows that were `imported` are the first ones of files, and nothing of the generation's model is in them.
    """

    model: ModelSpec
    rows: int
    shard: int
    conditions: Conditioning = "real"
    draw: int = 0  # others are further candidates of a curation, for the same conditions
    guidance: Guidance | None = None
    auxiliary: ModelSpec | None = None  # the second model, if the guidance has one
    imported: ImportedSeeds | None = None  # files that the rows are from
    instead_of: SampleSpec | None = None  # in that case: what the generation's model would generate

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """What the rows are drawn from; () where they are imported."""
        if self.imported is not None:
            return ()
        return (self.model, self.auxiliary) if self.auxiliary else (self.model,)

    @property
    def parents(self) -> tuple[Spec, ...]:
        if self.imported is not None:
            return ()
        sources = self.model.fitted.sources if self.conditions == "fitted" else ()
        return (*self.models, self.model.data, *sources)


def data_spec(data: Data, info: Info) -> DataSpec:
    """The real rows. The key holds the content of files, not their location."""
    description = {"data": described(data), "fingerprint": info.fingerprint}
    seeded = data.seeded or resampled(data)
    return DataSpec("data", REAL, description, seeded, data.seeded, data=data, info=info)


def replace_info(spec: DataSpec, info: Info) -> DataSpec:
    """The same artefact for an arm whose generation 0 is fitted to a different number of its rows."""
    return spec if info == spec.info else replace(spec, info=info)


def _source(
    source: Source, data: DataSpec, past: Mapping[int, SampleSpec | CurationSpec]
) -> DataSpec | SampleSpec | CurationSpec:
    return data if source.generation == REAL else past[source.generation]


class SourcesKey:
    """What the successive fits of one arm are made from, as recorded in their keys.

    A short list of sources is recorded as it is, a longer one as its length and a hash updated entry by entry: under
    `accumulate` each generation adds one entry to the previous one's, so that 3,000 generations cost 3,000 entries
    and not the square of it.
    """

    def __init__(self, data: DataSpec, past: Mapping[int, SampleSpec | CurationSpec]) -> None:
        self._data, self._past = data, past
        self._hashed: tuple[Source, ...] = ()
        self._hash = hashlib.sha256()

    def of(self, sources: tuple[Source, ...]) -> Any:
        """The key's entry for these sources: plain JSON."""
        if len(sources) <= LISTED:
            return [self._entry(source) for source in sources]
        if sources[: len(self._hashed)] != self._hashed:
            self._hashed, self._hash = (), hashlib.sha256()
        for source in sources[len(self._hashed) :]:
            self._hash.update(canonical_json(self._entry(source)).encode())
        self._hashed = sources
        return {"entries": len(sources), "sha256": self._hash.hexdigest()}

    def _entry(self, source: Source) -> list[Any]:
        return [_source(source, self._data, self._past).digest, *source]


def fit_spec(
    generation: int,
    family: ModelFamily,
    train: Train | None,
    plan: Plan,
    data: DataSpec,
    samples: Mapping[int, SampleSpec | CurationSpec],
    teacher: ModelSpec | None = None,
    weights: Mapping[str, float] | None = None,
    init: ModelSpec | None = None,
    *,
    criterion: Criterion = "mse",
    weighting: Weighting | None = None,
    curation: CurationSpec | None = None,
    kind: Literal["fit", "own fit"] = "fit",
    seeded: bool = True,
    key: SourcesKey | None = None,
) -> FitSpec:
    """Generation `generation` of a family, fitted to the plan's sources, or to what a curation keeps of them. All
    weights 0 is the same as no teacher, and a weighting that does not change this plan's fit the same as none.

    `key` is the one used for the arm's earlier generations, if any: it saves time and changes nothing.
    """
    weights = dict(weights or {})
    if not any(weights.values()):
        teacher, weights = None, {}
    has_layers = any(layer_path(term) is not None for term in weights)
    if weighting is not None and not weighting.changes(plan):
        weighting = None
    description = {
        "family": _fitted_settings(family),
        "train": train.describe() if train else None,
        "generation": generation,
        "data": data.digest,
        "sources": curation.digest if curation else (key or SourcesKey(data, samples)).of(plan.sources),
        "budget": plan.budget,
        "rows": data.info.rows,
        "teacher": [teacher.digest, weights, *([criterion] if has_layers else [])] if teacher else None,
        "init": init.digest if init else None,
        **({"weighting": described(weighting)} if weighting else {}),
    }
    stacked = isinstance(family, ClosedForm)
    return FitSpec(
        kind, generation, description, seeded, stacked,
        family=family, train=train, plan=plan, data=data, past=samples, teacher=teacher, weights=weights, init=init,
        criterion=criterion, weighting=weighting, curation=curation,
    )  # fmt: skip


def import_spec(given: GivenModel, family: ModelFamily, train: Train | None, plan: Plan, data: DataSpec) -> FitSpec:
    """A given model as generation 0: one for all seeds of a network. The key has its content, and the precision that
    samples are drawn in; how it would have been fitted is not in it."""
    if train is not None:
        train = train.model_copy(update={"steps": 0, "epochs": None})
    description = {
        "family": _fitted_settings(family),
        "given": given.sha256,
        "train": {"precision": train.precision, "tf32": train.tf32} if train else None,
        "generation": 0,
        "data": data.digest,
        "rows": data.info.rows,
    }
    stacked = isinstance(family, ClosedForm)
    return FitSpec(
        "import", 0, description, stacked, stacked,
        family=family, train=train, plan=plan, data=data, past={}, teacher=None, weights={}, init=None, given=given,
    )  # fmt: skip


def _fitted_settings(family: ModelFamily) -> dict[str, Any]:
    """What a family's settings say of its fits."""
    return {name: value for name, value in described(family).items() if name not in _sampling_fields(family)}


def _sampling_fields(family: ModelFamily) -> tuple[str, ...]:
    """Settings of a family that affect only its samples: changing the sampler requires no new fit."""
    fields: tuple[str, ...] = getattr(family, "sampling", ())
    return fields


def sample_spec(
    model: ModelSpec,
    rows: int,
    shard: int,
    conditions: Conditioning | None = None,
    *,
    draw: int = 0,
    kind: Literal["samples", "own samples"] = "samples",
    guidance: Guidance | None = None,
    auxiliary: ModelSpec | None = None,
) -> SampleSpec:
    """`rows` rows from a model, for `conditions` (None: those of its family). A closed-form model draws them in one
    piece. The rows that a model was fitted to are in its own key. A neutral guidance is the same as none."""
    if guidance is not None and guidance.neutral:
        guidance = auxiliary = None
    conditions = conditions or conditioning_of(model.family)
    shard = rows if model.stacked else min(shard, rows)
    fields = _sampling_fields(model.family)
    description: dict[str, Any] = {"model": model.digest, "rows": rows, "shard": shard, "generation": model.generation}
    if conditions != "real":
        description["conditions"] = conditions
    elif conditions_of(model.data.data, model.family):
        description["conditions"] = "real rows, from the last one backwards"
    if fields:
        settings = described(model.family)
        description["sampler"] = {name: settings[name] for name in fields if name in settings}
    if (version := getattr(model.family, "sampler_version", 1)) != 1:
        description["sampler version"] = version
    if draw:
        description["draw"] = draw
    if guidance is not None:
        description["guidance"] = described(guidance)
    if auxiliary is not None:
        description["auxiliary"] = auxiliary.digest
    return SampleSpec(
        kind, model.generation, description, True, model.stacked,
        model=model, rows=rows, shard=shard, conditions=conditions, draw=draw, guidance=guidance, auxiliary=auxiliary,
    )  # fmt: skip


def imported_spec(drawn: SampleSpec, imported: ImportedSeeds) -> SampleSpec:
    """The first rows of files in place of samples. The key has their content, not their location."""
    description = {"imported": imported.content, "rows": drawn.rows, "generation": drawn.generation}
    return SampleSpec(
        "samples", drawn.generation, description, imported.seeded, False,
        model=drawn.model, rows=drawn.rows, shard=drawn.shard, imported=imported, instead_of=drawn,
    )  # fmt: skip
