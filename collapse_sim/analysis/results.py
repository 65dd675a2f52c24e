"""A run's results so far, read from run.json and journal.jsonl; values of rows are read on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from collapse_sim.analysis.arm_settings import arm_settings, shared_settings
from collapse_sim.analysis.curation_figures import Figures, curation_figures
from collapse_sim.analysis.intervals import Interval, interval, paired
from collapse_sim.analysis.row_values import RowValues, row_sources
from collapse_sim.analysis.scale import UNBOUNDED, Bounds
from collapse_sim.analysis.training_columns import Training, trainings
from collapse_sim.core.errors import StoreError
from collapse_sim.metrics.aspects import Aspect, checked
from collapse_sim.metrics.names import part_name
from collapse_sim.store import journal
from collapse_sim.store.run_directory import JOURNAL_FILE, REMAKE, RUN_FILE, read_journal, read_run, values_by_arm
from collapse_sim.ui import formatting

T = TypeVar("T")
Better = Literal["lower", "higher"] | None
Scores = Mapping[str, Mapping[str, Mapping[int, Mapping[int, float]]]]  # [arm][metric][generation][seed]
Curves = Mapping[str, Mapping[str, Sequence[float | None]]]  # [arm][metric][generation]
Diverged = Mapping[str, Mapping[int, int]]  # [arm][seed] -> the generation whose fit diverged


@dataclass(frozen=True)
class RecordedClaim:
    """One claim of the recipe, as recorded in run.json."""

    that: str
    metric: str
    generation: int | Literal["last", "every"]
    expect: str
    seeds: tuple[int, ...] | None = None  # the deciding ones; None: all that the recipe was not tuned on


@dataclass(frozen=True)
class RecordedReference:
    """Published figures, one per arm."""

    source: str
    metric: str
    generation: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class MetricParts:
    """The parts of a metric, such as a value per class. Each is scored as its own metric, `METRIC[PART]`."""

    names: tuple[str, ...]  # "3"
    better: Better
    dead_below: float | None = None  # a part that stays below this value is dead

    def metrics(self, metric: str) -> list[str]:
        """Their metric names: "class_recall[3]"."""
        return [part_name(metric, name) for name in self.names]


@dataclass(frozen=True)
class Results:
    """Scores of all arms, and what they are compared with. Arms, seeds and metrics are in the recipe's order."""

    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Better]  # name -> the better direction
    generations: int  # the last generation's number; generation 0 is fitted to real data
    baseline: str  # the arm that others are compared with
    values: Scores
    theory: Curves = field(default_factory=dict)
    references: tuple[RecordedReference, ...] = ()
    claims: tuple[RecordedClaim, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)  # metric -> note on its figures
    warnings: Mapping[str, str] = field(default_factory=dict)  # metric -> why its figures should not be quoted
    units: Mapping[str, str] = field(default_factory=dict)  # metric -> its unit
    bounds: Mapping[str, Bounds] = field(default_factory=dict)  # metric -> its least and greatest possible value
    measures: Mapping[str, tuple[Aspect, ...]] = field(default_factory=dict)  # metric -> what it measures of collapse
    parts: Mapping[str, MetricParts] = field(default_factory=dict)  # metric -> its parts
    resolutions: Mapping[str, float] = field(default_factory=dict)  # metric -> its smallest possible step
    tuned_on: tuple[int, ...] | None = None  # seeds that settings were chosen on; None: the recipe does not say
    diverged: Diverged = field(default_factory=dict)
    planned: Mapping[str, int] = field(default_factory=dict)  # arm -> its number of seeds, if not that of `seeds`
    lasts: Mapping[str, int] = field(default_factory=dict)  # arm -> its last generation, if not `generations`
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # arm -> its settings in the recipe
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # arm -> those that all arms of its run share
    differing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # arm -> settings in which arms differ
    merged_baselines: tuple[str, ...] = ()  # of merged runs: the baseline of each run
    training: Mapping[str, Training] = field(default_factory=dict)  # arm -> the length of its fits, if it is trained
    curations: Figures = field(default_factory=dict)  # what was kept of the generated rows
    rows: Mapping[str, RowValues] = field(default_factory=dict)  # arm -> its values of held-out rows
    problems: tuple[str, ...] = ()  # of the journal: damaged lines, missing recorded scores

    def metrics_without_parts(self) -> list[str]:
        """The metrics that are not parts of another one."""
        parts = {name for metric, metric_parts in self.parts.items() for name in metric_parts.metrics(metric)}
        return [metric for metric in self.metrics if metric not in parts]

    def with_parts(self, metrics: Sequence[str]) -> list[str]:
        """Each of the metrics, followed by its parts."""
        parts = {metric: self.parts[metric].metrics(metric) for metric in metrics if metric in self.parts}
        return list(dict.fromkeys(name for metric in metrics for name in (metric, *parts.get(metric, ()))))

    def scores(self, arm: str, metric: str, generation: int) -> Mapping[int, float]:
        """{seed: value} in the order of `seeds`; empty if there is none."""
        return self.values.get(arm, {}).get(metric, {}).get(generation, {})

    def scored(self, metric: str, arms: Sequence[str] | None = None) -> list[int]:
        """Generations at which any of the arms has a score, ascending."""
        chosen = self.arms if arms is None else arms
        return sorted({k for arm in chosen for k in self.values.get(arm, {}).get(metric, {})})

    def mean(self, arm: str, metric: str, generation: int) -> Interval | None:
        """Mean over seeds with its 95 % interval, within the metric's bounds; None without a score."""
        scores = self.scores(arm, metric, generation)
        return interval(scores.values(), self.bounds.get(metric, UNBOUNDED)) if scores else None

    def means(self, metric: str, generation: int) -> dict[str, Interval]:
        """`mean` of every arm that has one."""
        by_arm = {arm: self.mean(arm, metric, generation) for arm in self.arms}
        return {arm: mean for arm, mean in by_arm.items() if mean is not None}

    def paired_difference(self, arm: str, other: str, metric: str, generation: int) -> Interval | None:
        """The paired difference arm - other over their common seeds, with its 95 % interval; None without a seed."""
        difference = paired(self.scores(arm, metric, generation), self.scores(other, metric, generation))
        least, greatest = self.bounds.get(metric, UNBOUNDED)
        if difference is None or least is None or greatest is None:
            return difference
        return difference.within((least - greatest, greatest - least))

    def for_seeds(self, seeds: Sequence[int]) -> Results:
        """The results of these seeds."""
        chosen = frozenset(seeds)
        if chosen.issuperset(self.seeds):
            return self
        values = {
            arm: {
                metric: {k: {s: v for s, v in by_seed.items() if s in chosen} for k, by_seed in ks.items()}
                for metric, ks in by_metric.items()
            }
            for arm, by_metric in self.values.items()
        }
        diverged = {arm: {s: k for s, k in ends.items() if s in chosen} for arm, ends in self.diverged.items()}
        own_seeds = tuple(seed for seed in self.seeds if seed in chosen)
        return replace(self, seeds=own_seeds, values=values, diverged=diverged)

    def seeds_of(self, arm: str) -> int:
        """The planned number of seeds of an arm."""
        return self.planned.get(arm, len(self.seeds))

    def last_of(self, arm: str) -> int:
        """The last generation that is planned for an arm."""
        return self.lasts.get(arm, self.generations)

    def protocol_of(self, arm: str) -> str | None:
        """The training protocol of an arm (protocol.py); None for an arm that is solved."""
        return self.training[arm].protocol if arm in self.training else None

    def theory_at(self, arm: str, metric: str, generation: int) -> float | None:
        """The theory curve's value, None if there is none."""
        curve = self.theory.get(arm, {}).get(metric, ())
        return curve[generation] if generation < len(curve) else None

    def reference_at(self, metric: str, generation: int) -> RecordedReference | None:
        """The published figures of this metric and generation, None if there are none."""
        return next((r for r in self.references if (r.metric, r.generation) == (metric, generation)), None)


def read_results(run_dir: Path) -> Results:
    """Read a run directory. Raises StoreError if it is not a run directory, damaged, or of a newer schema.

    The last score of an (arm, generation, metric, seed) counts. Arms, seeds and generations that run.json does not list
    (those of an earlier version of the recipe) are left out; metrics added by `evaluate` are kept. From the generation
    at which a seed's fit diverged, its scores are nan.
    """
    run = read_run(run_dir)
    try:
        lines, problems = read_journal(run_dir)
        return replace(_results(run, lines, tuple(problems)), rows=row_sources(run_dir, run, lines))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{run_dir}: {RUN_FILE} or {JOURNAL_FILE} is damaged ({type(error).__name__}: {error}); {REMAKE}"
        ) from error


def _results(run: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], problems: tuple[str, ...] = ()) -> Results:
    arms, seeds, last = tuple(run["arms"]), tuple(run["seeds"]), int(run["generations"])
    metrics: dict[str, Better] = {name: _better(settings["better"]) for name, settings in run["metrics"].items()}
    parts = {name: _parts(entry["parts"]) for name, entry in run["metrics"].items() if entry.get("parts")}
    metric_of = {name: metric for metric, metric_parts in parts.items() for name in metric_parts.metrics(metric)}
    metrics |= {name: parts[metric].better for name, metric in metric_of.items() if name not in metrics}
    recorded = journal.scores_of(lines)
    scores = {
        arm: {
            metric: {k: by_seed for k, by_seed in by_generation.items() if k <= last}
            for metric, by_generation in recorded.get(arm, {}).items()
        }
        for arm in arms
    }
    metrics |= {metric: None for by_metric in scores.values() for metric in by_metric if metric not in metrics}
    ended = journal.diverged(lines)
    by_arm = {arm: {s: k for s, k in sorted(ended.get(arm, {}).items()) if s in seeds and k <= last} for arm in arms}
    diverged = {arm: ends for arm, ends in by_arm.items() if ends}
    for arm, ends in diverged.items():
        _set_nan(scores, arm, ends, metrics)
    ordered = {
        arm: {
            metric: {k: {s: by_seed[s] for s in seeds if s in by_seed} for k, by_seed in sorted(generations.items())}
            for metric, generations in by_metric.items()
        }
        for arm, by_metric in scores.items()
    }
    return Results(
        name=run["name"],
        arms=arms,
        seeds=seeds,
        metrics=metrics,
        generations=last,
        baseline=run.get("baseline") or arms[0],
        values=ordered,
        theory=run.get("theory") or {},
        references=tuple(_reference(entry) for entry in run.get("reference") or ()),
        claims=tuple(_claim(c) for c in run.get("claims", ())),
        notes=_with_parts(_texts(run, "note"), metric_of),
        warnings=_with_parts(_texts(run, "warning"), metric_of),
        units=_with_parts(_texts(run, "unit"), metric_of),
        bounds=_with_parts(
            {name: _bounds(entry["bounds"]) for name, entry in run["metrics"].items() if entry.get("bounds")}, metric_of
        ),
        measures={name: checked(entry["measures"]) for name, entry in run["metrics"].items() if entry.get("measures")},
        parts=parts,
        resolutions={
            name: max(float(step or 0.0) for step in values_by_arm(entry["resolution"], [""]).values())
            for name, entry in run["metrics"].items()
            if entry.get("resolution")
        },
        tuned_on=None if run.get("tuned_on") is None else tuple(run["tuned_on"]),
        diverged=diverged,
        settings=run.get("settings", {}).get("arms", {}),
        shared=dict.fromkeys(arms, shared_settings(run.get("settings", {}))),
        differing=arm_settings(run.get("settings", {})),
        training=trainings(run, lines),
        curations=curation_figures(lines),
        problems=problems,
    )


def _parts(entry: Mapping[str, Any]) -> MetricParts:
    below = entry["dead_below"]
    return MetricParts(
        tuple(map(str, entry["names"])), _better(entry["better"]), None if below is None else float(below)
    )


def _with_parts(by_metric: Mapping[str, T], metric_of: Mapping[str, str]) -> dict[str, T]:
    """The values by metric, copied to the parts of each metric."""
    return {**{name: by_metric[metric] for name, metric in metric_of.items() if metric in by_metric}, **by_metric}


def _claim(entry: Mapping[str, Any]) -> RecordedClaim:
    seeds = entry.get("seeds")
    return RecordedClaim(
        entry["that"], entry["metric"], entry["generation"], entry["expect"], None if seeds is None else tuple(seeds)
    )


def _texts(run: Mapping[str, Any], key: str) -> dict[str, str]:
    return {name: text for name, entry in run["metrics"].items() if (text := _text(entry.get(key)))}


def _text(value: str | Mapping[str, str] | None) -> str:
    """One text if all arms have the same, else each with its arms."""
    if not isinstance(value, Mapping):
        return value or ""
    arms: dict[str, list[str]] = {}
    for arm, text in value.items():
        arms.setdefault(text, []).append(arm)
    return "; ".join(f"{text} ({formatting.arms(those, 0)})" for text, those in arms.items() if text)


def _bounds(pair: Sequence[float | None]) -> Bounds:
    least, greatest = (None if bound is None else float(bound) for bound in pair)
    return least, greatest


def _set_nan(
    scores: Mapping[str, dict[str, dict[int, dict[int, float]]]],
    arm: str,
    ends: Mapping[int, int],
    metrics: Mapping[str, Better],
) -> None:
    """Set nan for diverged seeds wherever any arm is scored: a mean over the other seeds would be too good."""
    for metric in metrics:
        generations = {k for by_metric in scores.values() for k in by_metric.get(metric, {})}
        for seed, first in ends.items():
            for k in (k for k in generations if k >= first):  # a model whose samples diverged may have a test loss
                scores[arm].setdefault(metric, {}).setdefault(k, {}).setdefault(seed, float("nan"))


def _better(word: str | None) -> Better:
    if word not in (*get_args(get_args(Better)[0]), None):
        raise ValueError(f"`better` is {word!r}, allowed: 'lower', 'higher', null")
    return word  # type: ignore[return-value]  # checked above


def _reference(entry: Mapping[str, Any]) -> RecordedReference:
    return RecordedReference(entry["source"], entry["metric"], int(entry["generation"]), entry["values"])
