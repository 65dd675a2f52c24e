"""What there is to make: one spec per artefact, for any seed. A spec's digest is the content key.

digest = sha256 of the canonical JSON of everything that determines the bytes: settings, versions, parents' digests. The
seed is the other half of an artefact's address, so that one digest serves all seeds. The digest does not include the
arm's name, the device, the number of workers or the log cadence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from collapse_sim.core.hashing import canonical_json
from collapse_sim.core.plugins import described
from collapse_sim.data.base import Data, Info, conditions_of
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.data.split import resampled
from collapse_sim.families.base import ClosedForm, Conditioning, ModelFamily
from collapse_sim.families.hooks import conditioning_of
from collapse_sim.families.training import Train
from collapse_sim.metrics.base import FeatureMap, Metric, Which
from collapse_sim.plan.settings import Criterion, layer_path
from collapse_sim.remedies.base import Weighting
from collapse_sim.store.spec import Spec

if TYPE_CHECKING:
    from collapse_sim.metrics.weights import WeightsFile

LISTED = 16  # up to this many sources are listed one by one in the key of a fit


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSpec(Spec):
    """All real, validation and held-out rows, decoded: one file for each."""

    data: Data
    info: Info


@dataclass(frozen=True, eq=False, kw_only=True)
class FitSpec(Spec):
    """A fitted model."""

    family: ModelFamily
    train: Train | None
    plan: Plan
    data: DataSpec
    past: Mapping[int, SampleSpec]  # the samples of earlier generations, by generation number
    teacher: FitSpec | None
    weights: Mapping[str, float]
    init: FitSpec | None
    criterion: Criterion = "mse"  # of the layers' terms
    weighting: Weighting | None = None  # None also where the arm's changes nothing

    @property
    def layers(self) -> tuple[str, ...]:
        """The paths of the layers whose outputs are compared with the teacher's."""
        paths = (layer_path(term) for term in self.weights)
        return tuple(sorted(path for path in paths if path is not None))

    @property
    def sources(self) -> tuple[DataSpec | SampleSpec, ...]:
        """The specs of the plan's sources, in the plan's order."""
        return tuple(_source(source, self.data, self.past) for source in self.plan.sources)

    @property
    def parents(self) -> tuple[Spec, ...]:
        return (self.data, *self.sources, *(spec for spec in (self.teacher, self.init) if spec))


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleSpec(Spec):
    """A generation's generated rows: its samples, for conditions of real rows or of rows that its model was fitted to;
    or its outputs, for conditions of held-out rows.

    With conditions of real rows, sample i is made for that of real row n - 1 - i in the seed's order, of the n that
    generation 0 is fitted to; output i is made for that of held-out row i.
    """

    model: FitSpec
    rows: int
    shard: int
    conditions: Conditioning = "real"

    @property
    def parents(self) -> tuple[Spec, ...]:
        return (self.model, self.model.data, *(self.model.sources if self.conditions == "fitted" else ()))


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureSpec(Spec):
    """Features of one set of rows: tensors "features" (n, F) and, from a classifier, "probabilities" (n, classes)."""

    feature_map: FeatureMap
    network: FitSpec | None
    weights: WeightsFile | None
    rows: SampleSpec | DataSpec
    which: Which

    @property
    def parents(self) -> tuple[Spec, ...]:
        return (self.rows, self.network) if self.network else (self.rows,)

    @property
    def count(self) -> int:
        """The number of rows."""
        if isinstance(self.rows, SampleSpec):
            return self.rows.rows
        return self.rows.info.held_out if self.which == "held_out" else self.rows.info.rows


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreSpec(Spec):
    """One metric's value, for each seed."""

    metric: Metric
    model: FitSpec
    samples: SampleSpec
    outputs: SampleSpec | None
    origin: FitSpec
    data: DataSpec
    network: FitSpec | None
    weights: WeightsFile | None
    features: Mapping[Which, FeatureSpec]  # those kept in the store, by the rows they belong to

    @property
    def parents(self) -> tuple[Spec, ...]:
        needed = _needed(self.metric, self.model, self.samples, self.outputs, self.origin)
        return (self.data, *needed.values(), *self.features.values(), *([self.network] if self.network else []))


def data_spec(data: Data, info: Info) -> DataSpec:
    """The real rows. The key holds the content of files, not their location."""
    description = {"data": described(data), "fingerprint": info.fingerprint}
    seeded = data.seeded or resampled(data)
    return DataSpec("data", REAL, description, seeded, data.seeded, data=data, info=info)


def replace_info(spec: DataSpec, info: Info) -> DataSpec:
    """The same artefact for an arm whose generation 0 is fitted to a different number of its rows."""
    return spec if info == spec.info else replace(spec, info=info)


def _source(source: Source, data: DataSpec, past: Mapping[int, SampleSpec]) -> DataSpec | SampleSpec:
    return data if source.generation == REAL else past[source.generation]


def _needed(
    metric: Metric, model: FitSpec, samples: SampleSpec, outputs: SampleSpec | None, origin: FitSpec
) -> dict[str, Spec]:
    """Those of these artefacts that a metric declares that it needs."""
    roles = {"model": model, "samples": samples, "outputs": outputs, "origin": origin}
    return {role: spec for role, spec in roles.items() if spec is not None and role in metric.needs}


class SourcesKey:
    """What the successive fits of one arm are made from, as recorded in their keys.

    A short list of sources is recorded as it is, a longer one as its length and a hash updated entry by entry: under
    `accumulate` each generation adds one entry to the previous one's, so that 3,000 generations cost 3,000 entries
    and not the square of it.
    """

    def __init__(self, data: DataSpec, past: Mapping[int, SampleSpec]) -> None:
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
    samples: Mapping[int, SampleSpec],
    teacher: FitSpec | None = None,
    weights: Mapping[str, float] | None = None,
    init: FitSpec | None = None,
    *,
    criterion: Criterion = "mse",
    weighting: Weighting | None = None,
    seeded: bool = True,
    key: SourcesKey | None = None,
) -> FitSpec:
    """Generation `generation` of a family, fitted to the plan's sources. All weights 0 is the same as no teacher, and a
    weighting that does not change this plan's fit the same as none.

    `key` is the one used for the arm's earlier generations, if any: it saves time and changes nothing.
    """
    weights = dict(weights or {})
    if not any(weights.values()):
        teacher, weights = None, {}
    has_layers = any(layer_path(term) is not None for term in weights)
    if weighting is not None and not weighting.changes(plan):
        weighting = None
    description = {
        "family": {name: value for name, value in described(family).items() if name not in _sampling_fields(family)},
        "train": train.describe() if train else None,
        "generation": generation,
        "data": data.digest,
        "sources": (key or SourcesKey(data, samples)).of(plan.sources),
        "budget": plan.budget,
        "rows": data.info.rows,
        "teacher": [teacher.digest, weights, *([criterion] if has_layers else [])] if teacher else None,
        "init": init.digest if init else None,
        **({"weighting": described(weighting)} if weighting else {}),
    }
    stacked = isinstance(family, ClosedForm)
    return FitSpec(
        "fit", generation, description, seeded, stacked,
        family=family, train=train, plan=plan, data=data, past=samples, teacher=teacher, weights=weights, init=init,
        criterion=criterion, weighting=weighting,
    )  # fmt: skip


def _sampling_fields(family: ModelFamily) -> tuple[str, ...]:
    """Settings of a family that affect only its samples: changing the sampler requires no new fit."""
    fields: tuple[str, ...] = getattr(family, "sampling", ())
    return fields


def sample_spec(model: FitSpec, rows: int, shard: int, conditions: Conditioning | None = None) -> SampleSpec:
    """`rows` rows from a model, for `conditions` (None: those of its family). A closed-form model draws them in one
    piece. The rows that a model was fitted to are in its own key."""
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
        description["sampler"] = {name: settings[name] for name in fields}
    if (version := getattr(model.family, "sampler_version", 1)) != 1:
        description["sampler version"] = version
    return SampleSpec(
        "samples",
        model.generation,
        description,
        model.seeded,
        model.stacked,
        model=model,
        rows=rows,
        shard=shard,
        conditions=conditions,
    )


def _part_key(data: DataSpec) -> dict[str, int]:
    """The key's entry where generation 0 is fitted to a part of the real rows."""
    return {"part": data.info.rows} if data.info.rows < data.info.pool else {}


def _weights_key(weights: WeightsFile | None) -> dict[str, list[str]]:
    return {"weights": [weights.label, weights.sha256]} if weights else {}


def score_spec(
    metric: Metric,
    samples: SampleSpec,
    origin: FitSpec,
    features: FeatureSpecs,
    weights: WeightsFile | None = None,
    outputs: SampleSpec | None = None,
) -> ScoreSpec:
    """A metric of one generation. The key holds only what the metric declares that it needs."""
    model, data = samples.model, samples.model.data
    feature_map: FeatureMap | None = getattr(metric, "feature_map", None)
    network = features.network(feature_map) if feature_map else None
    assert outputs is not None or "outputs" not in metric.needs
    looked_at: dict[str, Spec] = {"data": data, **_needed(metric, model, samples, outputs, origin)}
    if network:
        looked_at["network"] = network
    description = {
        "metric": described(metric),
        "rows": data.info.rows,
        "generation": model.generation,
        **_weights_key(weights),
        **(_part_key(data) if "real" in metric.needs else {}),
        **{role: spec.digest for role, spec in looked_at.items()},
    }
    return ScoreSpec(
        "scores", model.generation, description, model.seeded, model.stacked,
        metric=metric, model=model, samples=samples, outputs=outputs, origin=origin,
        data=data, network=network, weights=weights, features=features.of(metric, feature_map, weights, samples),
    )  # fmt: skip


class FeatureSpecs:
    """The feature artefacts of an experiment and the networks behind them, each made once and shared by its scores."""

    def __init__(self, data: DataSpec) -> None:
        self._data = data
        self._networks: dict[str, FitSpec | None] = {}
        self._features: dict[tuple[str, str, Which, int], FeatureSpec] = {}

    def shared(self) -> tuple[Spec, ...]:
        """What all arms and generations share: networks, and features of real and held-out rows."""
        networks = (network for network in self._networks.values() if network is not None)
        fixed = (spec for (_, _, which, _), spec in self._features.items() if which != "samples")
        return (*{spec.digest: spec for spec in networks}.values(), *fixed)

    def network(self, feature_map: FeatureMap) -> FitSpec | None:
        """The network behind a feature map, fitted once to the labelled real rows; shared by all seeds if these are."""
        key = canonical_json(described(feature_map))
        if key not in self._networks:
            settings = feature_map.network()
            plan = Plan((Source(REAL, self._data.info.pool),))
            self._networks[key] = (
                fit_spec(REAL, *settings, plan, self._data, {}, seeded=self._data.seeded) if settings else None
            )
        return self._networks[key]

    def of(
        self, metric: Metric, feature_map: FeatureMap | None, weights: WeightsFile | None, samples: SampleSpec
    ) -> dict[Which, FeatureSpec]:
        """The features that a metric reads. Those of a map without a network are cheaper to compute than to store."""
        if feature_map is None or (weights is None and self.network(feature_map) is None):
            return {}
        wanted = getattr(metric, "features_of", metric.needs)
        data = samples.model.data
        rows: dict[Which, SampleSpec | DataSpec] = {"real": data, "held_out": data, "samples": samples}
        return {
            which: self._spec(feature_map, weights, source, which) for which, source in rows.items() if which in wanted
        }

    def _spec(
        self, feature_map: FeatureMap, weights: WeightsFile | None, rows: SampleSpec | DataSpec, which: Which
    ) -> FeatureSpec:
        """Features of a generation's samples, of the real rows that generation 0 is fitted to, or of held-out rows.

        Where generation 0 is fitted to a part of the real rows, each seed has a different part.
        """
        network = self.network(feature_map)
        part = _part_key(rows) if which == "real" and isinstance(rows, DataSpec) else {}
        key = (canonical_json([described(feature_map), _weights_key(weights)]), rows.digest, which, part.get("part", 0))
        if key not in self._features:
            description = {
                "map": described(feature_map),
                "network": network.digest if network else None,
                "rows": rows.digest,
                "which": which,
                **_weights_key(weights),
                **part,
            }
            self._features[key] = FeatureSpec(
                "features", rows.generation, description, rows.seeded or bool(part), False,
                feature_map=feature_map, network=network, weights=weights, rows=rows, which=which,
            )  # fmt: skip
        return self._features[key]
