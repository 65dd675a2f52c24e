"""Several runs merged into one for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from collapse_sim.analysis.results import Better, RecordedReference, Results
from collapse_sim.analysis.scale import Bounds

T = TypeVar("T")


def merge(runs: Mapping[str, Results]) -> Results:
    """Merge runs; arms are named `LABEL/arm`. Equal seeds have the same draws in every run, so they are paired.

    Where the runs disagree on a metric's direction, unit or bounds, the metric has none.
    """
    metrics: dict[str, Better] = {}
    for run in runs.values():
        for metric, better in run.metrics.items():
            metrics[metric] = better if metrics.get(metric, better) == better else None
    bounds: dict[str, Bounds] = _agreed({label: run.bounds for label, run in runs.items()})
    return Results(
        name=" ".join(runs),
        arms=tuple(f"{label}/{arm}" for label, run in runs.items() for arm in run.arms),
        seeds=tuple(dict.fromkeys(seed for run in runs.values() for seed in run.seeds)),
        metrics=metrics,
        generations=max(run.generations for run in runs.values()),
        baseline=next(f"{label}/{run.baseline}" for label, run in runs.items()),
        merged_baselines=tuple(f"{label}/{run.baseline}" for label, run in runs.items()),
        values=_by_arm({label: run.values for label, run in runs.items()}),
        theory=_by_arm({label: run.theory for label, run in runs.items()}),
        references=_references(runs),
        notes=_texts({label: run.notes for label, run in runs.items()}),
        warnings=_texts({label: run.warnings for label, run in runs.items()}),
        units=_agreed({label: run.units for label, run in runs.items()}),
        bounds=bounds,
        parts=_agreed({label: run.parts for label, run in runs.items()}),
        resolutions=_agreed({label: run.resolutions for label, run in runs.items()}),
        measures=_agreed({label: run.measures for label, run in runs.items()}),
        diverged=_by_arm({label: run.diverged for label, run in runs.items()}),
        planned={f"{label}/{arm}": run.seeds_of(arm) for label, run in runs.items() for arm in run.arms},
        lasts={f"{label}/{arm}": run.generations for label, run in runs.items() for arm in run.arms},
        settings=_by_arm({label: run.settings for label, run in runs.items()}),
        shared=_by_arm({label: run.shared for label, run in runs.items()}),
        differing=_by_arm(
            {
                label: {arm: {**run.differing.get(arm, {}), "run": label} for arm in run.arms}
                for label, run in runs.items()
            }
        ),
        training=_by_arm({label: run.training for label, run in runs.items()}),
        rows=_by_arm({label: run.rows for label, run in runs.items()}),
        problems=tuple(problem for run in runs.values() for problem in run.problems),
    )


def _by_arm(runs: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    return {f"{label}/{arm}": value for label, by_arm in runs.items() for arm, value in by_arm.items()}


def _agreed(runs: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """{metric: value} of the metrics for which all runs that have a value have the same one."""
    collected: dict[str, list[T]] = {}
    for by_metric in runs.values():
        for metric, value in by_metric.items():
            collected.setdefault(metric, []).append(value)
    return {metric: values[0] for metric, values in collected.items() if all(value == values[0] for value in values)}


def _texts(runs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The text of each metric: once if all runs have the same, otherwise that of each run."""
    merged: dict[str, str] = {}
    for metric in dict.fromkeys(name for texts in runs.values() for name in texts):
        by_label = {label: texts[metric] for label, texts in runs.items() if metric in texts}
        same = len(by_label) == len(runs) and len(set(by_label.values())) == 1
        texts = by_label.values() if same else (f"{label}: {text}" for label, text in by_label.items())
        merged[metric] = "; ".join(dict.fromkeys(texts))
    return merged


def _references(runs: Mapping[str, Results]) -> tuple[RecordedReference, ...]:
    """References to the same published figures become one, over the arms of all runs."""
    merged: dict[tuple[str, str, int], dict[str, float]] = {}
    for label, run in runs.items():
        for r in run.references:
            values = merged.setdefault((r.source, r.metric, r.generation), {})
            values.update({f"{label}/{arm}": value for arm, value in r.values.items()})
    return tuple(RecordedReference(*key, values) for key, values in merged.items())
