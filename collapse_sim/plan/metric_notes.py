"""What run.json says about a metric: its unit, bounds and parts, and the note shown beside its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collapse_sim.core.errors import PluginError
from collapse_sim.core.plugins import plugin_errors
from collapse_sim.metrics.aspects import Aspect, checked
from collapse_sim.metrics.base import FeatureSpace, Metric, MetricNote, Need, PartsMetric

if TYPE_CHECKING:
    from collapse_sim.plan.score_specs import ScoreSpec

_OF_A_GENERATION: frozenset[Need] = frozenset(("model", "samples", "outputs"))


def shown_as(score: ScoreSpec) -> dict[str, Any]:
    """How tables, plots and verdicts show a score's metric, as far as it declares that: {"unit": "share of real rows",
    "bounds": [0.0, 1.0], "resolution": 0.001, "measures": ["tail"]}.

    Raises PluginError for invalid bounds or aspects.
    """
    metric = score.metric
    with plugin_errors(metric, "unit"):
        asked = getattr(metric, "unit_of", None)
        unit = str(asked(score.model.family) if asked else getattr(metric, "unit", ""))
    with plugin_errors(metric, "bounds"):
        bounds = getattr(metric, "bounds", (None, None))
    try:
        least, greatest = (None if bound is None else float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise PluginError(
            f"{type(metric).__module__}:{type(metric).__qualname__}: `bounds` is {bounds!r}; allowed: the least and "
            "the greatest value there can be, each a number or None"
        ) from None
    with plugin_errors(metric, "resolution"):
        resolve = getattr(metric, "resolution", None)
        resolution = float(resolve(score.data.info, score.samples.rows)) if resolve else 0.0
    measures = aspects_of(metric)
    return {
        "unit": unit,
        "bounds": [least, greatest],
        **({"resolution": resolution} if resolution else {}),
        **({"measures": list(measures)} if measures else {}),
    }


def aspects_of(metric: Metric) -> tuple[Aspect, ...]:
    """What a metric measures of a model's collapse; nothing if it reads only real rows, as a reference.

    Raises PluginError for aspects that do not exist.
    """
    with plugin_errors(metric, "measures"):
        declared = getattr(metric, "measures", ())
    try:
        aspects = checked(declared)
    except ValueError as problem:
        raise PluginError(f"{type(metric).__module__}:{type(metric).__qualname__}: {problem}") from None
    return aspects if set(metric.needs) & _OF_A_GENERATION else ()


def parts_of(score: ScoreSpec) -> dict[str, Any] | None:
    """What run.json says about a metric's parts: names, better direction, `dead_below`; None if it has none."""
    metric = score.metric
    if not isinstance(metric, PartsMetric):
        return None
    with plugin_errors(metric, "parts"):
        names = list(metric.parts(score.data.info))
    better = getattr(metric, "better_of_parts", metric.better)
    return {"names": names, "better": better, "dead_below": getattr(metric, "dead_below", None)}


def note_of(score: ScoreSpec) -> MetricNote | None:
    """The note shown beside the values of a score's metric; None when it has none."""
    info, samples = score.data.info, score.samples.rows
    from_truth = getattr(score.metric, "note_from_truth", None)
    from_rows = getattr(score.metric, "metric_note", None)
    if from_truth is None and from_rows is None:
        return None
    space = space_of(score)
    with plugin_errors(score.metric, "metric_note"):
        if from_truth is not None:
            metric_note: MetricNote = from_truth(info, score.data.data, samples)
        else:
            metric_note = from_rows(info, samples, space)  # type: ignore[misc]
    return metric_note


def space_of(score: ScoreSpec) -> FeatureSpace | None:
    """The features that a score is computed from: the network's name, and the hash of its file or of its fit."""
    feature_map = getattr(score.metric, "feature_map", None)
    if feature_map is None:
        return None
    if score.weights:
        remark = f" ({score.weights.remark})" if score.weights.remark else ""
        return FeatureSpace(f"{score.weights.label} {score.weights.sha256[:8]}{remark}", score.weights.dimensions)
    name = getattr(feature_map, "label", type(feature_map).__name__)
    label = f"{name} {score.network.digest[:8]}" if score.network else name
    dimensions = getattr(feature_map, "dimensions", None)
    return FeatureSpace(label, dimensions(score.data.info) if dimensions else None)
