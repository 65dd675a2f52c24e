"""What trackers show of a run: curves of scores, costs and losses, read from its journal and its store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collapse_sim.analysis.fit_records import fit_records
from collapse_sim.run.trackers import TrackedCurve, TrackedPoint
from collapse_sim.store import journal
from collapse_sim.store.run_directory import JOURNAL_FILE
from collapse_sim.ui import formatting

if TYPE_CHECKING:
    from collapse_sim.analysis.results import Results

MOST_SEEDS = 32  # with curves of their own; means are over all seeds
COSTS = ("costs/fit_s", "costs/rows_per_s", "costs/model_bytes", "costs/sampling_s", "costs/samples_bytes")
LOSSES = ("train_loss", "validation_loss")
_ALL = "all seeds"  # of fits that are solved together

Known = Mapping[str, Sequence[int]]  # steps by curve, as sent before


def mean_label(seeds: int) -> str:
    """ "mean of 3 seeds". A run that gets more seeds begins another curve, since means that were sent stay."""
    return f"mean of {formatting.plural(seeds, 'seed')}"


def seed_label(seed: int) -> str:
    return f"seed {seed}"


def new_points(results: Results, folder: Path, store: Path, known: Known) -> list[TrackedPoint]:
    """The points that are not `known` yet, in the order of their steps. A problem of a fit's record leaves it out."""
    points = [*score_points(results), *fit_points(results, folder, store, known)]
    return sorted((p for p in points if not _is_known(p, known)), key=lambda p: (p.curve.axis, p.step))


def mark_sent(points: Sequence[TrackedPoint], known: dict[str, list[int]]) -> None:
    """Add points to the known ones. Of a fit's losses, which are always sent together, the last step is kept."""
    for point in points:
        steps = known.setdefault(point.curve.path, [])
        if point.curve.axis == "update":
            steps[:] = [max(point.step, *steps)] if steps else [point.step]
        else:
            steps.append(point.step)


def _is_known(point: TrackedPoint, known: Known) -> bool:
    steps = known.get(point.curve.path, ())
    return bool(steps) if point.curve.axis == "update" else point.step in steps


def score_points(results: Results) -> Iterator[TrackedPoint]:
    """Every score of the first seeds, and the means over all seeds, parts of metrics included."""
    shown = set(results.seeds[:MOST_SEEDS])
    for metric in results.metrics:
        for arm in results.arms:
            for k in results.scored(metric, [arm]):
                scores = results.scores(arm, metric, k)
                for seed, value in scores.items():
                    if seed in shown:
                        yield TrackedPoint(TrackedCurve(metric, (arm, seed_label(seed))), k, value)
                mean = results.mean(arm, metric, k) if len(scores) > 1 else None
                if mean is not None:
                    value = mean.mean if mean.finite else math.nan
                    yield TrackedPoint(TrackedCurve(metric, (arm, mean_label(len(scores)))), k, value)


def fit_points(results: Results, folder: Path, store: Path, known: Known) -> Iterator[TrackedPoint]:
    """Costs and losses of the fits that are not known yet; a fit that several arms share is in the curves of each."""
    shown = set(results.seeds[:MOST_SEEDS])
    lines = [
        line
        for line in journal.read(folder / JOURNAL_FILE)
        if line["event"] == "scores" and line["arm"] in results.arms and not _has_costs(line, shown, known)
    ]
    if not lines:
        return
    for fit in fit_records(folder, store, lines)[0]:
        if len(fit.seeds) == 1 and fit.seeds[0] not in shown:
            continue
        costs = (fit.seconds, fit.rows_per_s, fit.size, fit.sampling_s, fit.samples_size or None)
        for arm in fit.arms:
            of = (arm, seed_label(fit.seeds[0]) if len(fit.seeds) == 1 else _ALL)
            for name, cost in zip(COSTS, costs, strict=True):
                if cost is not None:
                    yield TrackedPoint(TrackedCurve(name, of), fit.generation, float(cost))
            for each in fit.evaluations:
                for name in LOSSES:
                    curve = TrackedCurve(f"{name}/generation {fit.generation:03d}", of, "update")
                    yield TrackedPoint(curve, each.step, getattr(each, name))


def _has_costs(line: Mapping[str, Any], shown: set[int], known: Known) -> bool:
    """Whether the costs of all of a line's fits are known."""
    arm, k = line["arm"], line["generation"]

    def has(label: str) -> bool:
        return k in known.get(TrackedCurve(COSTS[0], (arm, label)).path, ())

    return has(_ALL) or all(has(seed_label(seed)) for seed in line["seeds"] if seed in shown)
