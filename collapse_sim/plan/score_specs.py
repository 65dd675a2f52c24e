"""Specs of features and scores: what metrics read, and what they give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collapse_sim.core.hashing import canonical_json
from collapse_sim.core.plugins import described
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.metrics.base import FeatureMap, Metric, Which
from collapse_sim.store.spec import Spec

if TYPE_CHECKING:
    from collapse_sim.metrics.weights import WeightsFile
from collapse_sim.plan.specs import DataSpec, FitSpec, ModelSpec, SampleSpec, fit_spec


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureSpec(Spec):
    """Features of one set of rows: tensors "features" (n, F) and, from a classifier, "probabilities" (n, classes)."""

    feature_map: FeatureMap
    network: FitSpec | None
    weights: WeightsFile | None
    rows: SampleSpec | DataSpec
    which: Which
    most: int | None = None  # of the rows, drawn by metrics.base.rows_drawn

    @property
    def parents(self) -> tuple[Spec, ...]:
        return (self.rows, self.network) if self.network else (self.rows,)

    @property
    def count(self) -> int:
        """The number of rows that are described."""
        return self.available if self.most is None else min(self.available, self.most)

    @property
    def available(self) -> int:
        """The number of rows that there are."""
        if isinstance(self.rows, SampleSpec):
            return self.rows.rows
        return self.rows.info.held_out if self.which == "held_out" else self.rows.info.rows


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreSpec(Spec):
    """One metric's value, for each seed."""

    metric: Metric
    model: ModelSpec
    samples: SampleSpec
    outputs: SampleSpec | None
    origin: ModelSpec
    data: DataSpec
    network: FitSpec | None
    weights: WeightsFile | None
    features: Mapping[Which, FeatureSpec]  # those kept in the store, by the rows they belong to

    @property
    def parents(self) -> tuple[Spec, ...]:
        needed = _needed(self.metric, self.model, self.samples, self.outputs, self.origin)
        return (self.data, *needed.values(), *self.features.values(), *([self.network] if self.network else []))


def _needed(
    metric: Metric, model: ModelSpec, samples: SampleSpec, outputs: SampleSpec | None, origin: ModelSpec
) -> dict[str, Spec]:
    """Those of these artefacts that a metric declares that it needs."""
    roles = {"model": model, "samples": samples, "outputs": outputs, "origin": origin}
    return {role: spec for role, spec in roles.items() if spec is not None and role in metric.needs}


def _part_key(data: DataSpec) -> dict[str, int]:
    """The key's entry where generation 0 is fitted to a part of the real rows."""
    return {"part": data.info.rows} if data.info.rows < data.info.pool else {}


def _weights_key(weights: WeightsFile | None) -> dict[str, list[str]]:
    return {"weights": [weights.label, weights.sha256]} if weights else {}


def score_spec(
    metric: Metric,
    samples: SampleSpec,
    origin: ModelSpec,
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
        "scores", model.generation, description, True, model.stacked,
        metric=metric, model=model, samples=samples, outputs=outputs, origin=origin,
        data=data, network=network, weights=weights, features=features.of(metric, feature_map, weights, samples),
    )  # fmt: skip


class FeatureSpecs:
    """The feature artefacts of an experiment and the networks behind them, each made once and shared by its scores."""

    def __init__(self, data: DataSpec, metrics: Iterable[Metric]) -> None:
        """`metrics`: all of the experiment. Of samples only as many are described as one of them uses."""
        self._data = data
        self._most: dict[str, float] = {}
        for metric in metrics:
            feature_map, most = getattr(metric, "feature_map", None), getattr(metric, "most_rows", None)
            if feature_map is not None:
                key = canonical_json(described(feature_map))
                self._most[key] = max(self._most.get(key, 0), math.inf if most is None else most)
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
        used = self._most[canonical_json(described(feature_map))]
        most = int(used) if isinstance(rows, SampleSpec) and used < rows.rows else None
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
                **({} if most is None else {"most": most}),
            }
            self._features[key] = FeatureSpec(
                "features", rows.generation, description, rows.seeded or bool(part), False,
                feature_map=feature_map, network=network, weights=weights, rows=rows, which=which,
                most=most,
            )  # fmt: skip
        return self._features[key]
