"""`compare --json` and `--csv`: the same figures for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collapse_sim.analysis.by_protocol import baselines
from collapse_sim.analysis.deaths import deaths_document
from collapse_sim.analysis.intervals import Interval
from collapse_sim.analysis.reached import common
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_intervals import of_difference, of_mean
from collapse_sim.analysis.scale import UNBOUNDED

SCHEMA = 1
CSV_COLUMNS = ("run", "arm", "metric", "generation", "seed", "value", "theory", "note", "rows", "rows_low", "rows_high")


def run_document(results: Results, metrics: Sequence[str], generations: Sequence[int] | None = None) -> dict[str, Any]:
    """The figures of one run. `values` are in the order of `seeds`, null where a score is missing or not finite.

    `generations` None: all that are scored.
    """
    arms: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for arm in results.arms:
        arms[arm] = {}
        for metric in metrics:
            entries = arms[arm][metric] = []
            for k in results.scored(metric, [arm]) if generations is None else generations:
                scores = results.scores(arm, metric, k)
                mean = results.mean(arm, metric, k)
                if mean is not None:
                    values = [_number(scores.get(seed)) for seed in results.seeds]
                    rows = _rows(of_mean(results, arm, metric, k))
                    entries.append({"generation": k, **_summary(mean), "rows": rows, "values": values})
    return {
        "schema": SCHEMA,
        "run": results.name,
        "arms": arms,
        "seeds": list(results.seeds),
        "generations": results.generations,
        "common_generation": common(results, metrics),
        "metrics": {
            metric: {
                "better": results.metrics[metric],
                "unit": results.units.get(metric),
                "bounds": list(results.bounds.get(metric, UNBOUNDED)),
                "note": results.notes.get(metric),
                "warning": results.warnings.get(metric),
            }
            for metric in metrics
        },
        "theory": {
            arm: {metric: list(map(_number, curve)) for metric, curve in curves.items() if metric in metrics}
            for arm, curves in results.theory.items()
        },
        "references": [
            {"source": r.source, "metric": r.metric, "generation": r.generation, "values": dict(r.values)}
            for r in results.references
            if r.metric in metrics
        ],
        "training": {
            arm: {
                "protocol": found.protocol,
                "rows": list(found.rows),
                "updates": list(found.updates),
                "epochs": list(found.epochs),
            }
            for arm, found in results.training.items()
        },
        "diverged": {
            arm: [{"seed": seed, "generation": k} for seed, k in found.items()]
            for arm, found in results.diverged.items()
        },
        "deaths": deaths_document(results, metrics),
        "problems": list(results.problems),
    }


def differences_document(
    results: Results, metrics: Sequence[str], generations: Sequence[int] | None = None
) -> dict[str, Any]:
    """Paired differences of every other arm to the baseline of its protocol, with their 95 % intervals."""
    of = baselines(results)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for arm, baseline in of.items():
        if arm == baseline:
            continue
        found[arm] = {}
        for metric in metrics:
            entries = found[arm][metric] = []
            for k in results.scored(metric, [arm]) if generations is None else generations:
                minus = results.minus(arm, baseline, metric, k)
                if minus is not None:
                    rows = _rows(of_difference(results, arm, baseline, metric, k))
                    entries.append({"generation": k, **_summary(minus), "rows": rows})
    return {"baseline": results.baseline, "baselines": of, "differences": found}


def csv_text(runs: Mapping[str, Results], metrics: Sequence[str], generations: Sequence[int] | None = None) -> str:
    """Tidy: one row a score, with the columns CSV_COLUMNS; an empty field where theory is silent, or no note known, or
    no interval over held-out rows (how many, and its ends)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for label, results in runs.items():
        writer.writerows(_csv_rows(label, results, metrics, generations))
    return out.getvalue()


def _csv_rows(
    label: str, results: Results, metrics: Sequence[str], generations: Sequence[int] | None
) -> Iterable[tuple[Any, ...]]:
    for arm in results.arms:
        for metric in metrics:
            texts = [results.notes.get(metric), results.warnings.get(metric)]
            note = "; ".join(text for text in texts if text)
            for k in results.scored(metric, [arm]) if generations is None else generations:
                theory = results.theory_at(arm, metric, k)
                for seed, value in results.scores(arm, metric, k).items():
                    rows = of_mean(results, arm, metric, k, [seed])
                    over_rows = (None, None, None) if rows is None else (rows.n, rows.low, rows.high)
                    yield label, arm, metric, k, seed, value, theory, note, *over_rows


def _summary(found: Interval) -> dict[str, Any]:
    return {"n": found.n, "mean": _number(found.mean), "low": _number(found.low), "high": _number(found.high)}


def _rows(found: Interval | None) -> dict[str, Any] | None:
    """An interval over held-out rows, n of them."""
    return None if found is None else {"n": found.n, "low": _number(found.low), "high": _number(found.high)}


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
