"""The output of `compare --json` and `--csv`, and the claims of `verify --json`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from collapse_sim.analysis.by_protocol import baselines, by_protocol
from collapse_sim.analysis.curation_figures import curation_document
from collapse_sim.analysis.deaths import deaths_document
from collapse_sim.analysis.intervals import Interval
from collapse_sim.analysis.numbers import finite
from collapse_sim.analysis.paired_tests import paired_tests
from collapse_sim.analysis.reached import common
from collapse_sim.analysis.results import RecordedClaim, Results
from collapse_sim.analysis.row_intervals import of_difference, of_mean
from collapse_sim.analysis.scale import UNBOUNDED
from collapse_sim.analysis.verdicts import Verdict

SCHEMA = 1


class ScoreRow(NamedTuple):
    """One score with its theory; None without one."""

    run: str
    arm: str
    metric: str
    generation: int
    seed: int
    value: float
    theory: float | None


CSV_COLUMNS = (*ScoreRow._fields, "note", "rows", "rows_low", "rows_high")


def run_document(results: Results, metrics: Sequence[str], generations: Sequence[int] | None = None) -> dict[str, Any]:
    """The JSON document of one run. `values` are in the order of `seeds`, null if a score is missing or not finite.

    `generations` None: all scored ones.
    """
    arms: dict[str, dict[str, list[dict[str, Any]]]] = {}
    curations = curation_document(results.curations, results.arms, results.seeds, results.generations)
    for arm in results.arms:
        arms[arm] = {}
        for metric in metrics:
            entries = arms[arm][metric] = []
            for k in results.scored(metric, [arm]) if generations is None else generations:
                scores = results.scores(arm, metric, k)
                mean = results.mean(arm, metric, k)
                if mean is not None:
                    values = [finite(scores.get(seed)) for seed in results.seeds]
                    rows = _rows(of_mean(results, arm, metric, k))
                    entries.append({"generation": k, **_summary(mean), "rows": rows, "values": values})
    return {
        "schema": SCHEMA,
        "run": results.name,
        "arms": arms,
        "arm_settings": {arm: dict(results.differing.get(arm, {})) for arm in results.arms},
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
            arm: {metric: list(map(finite, curve)) for metric, curve in curves.items() if metric in metrics}
            for arm, curves in results.theory.items()
        },
        "references": [
            {"source": r.source, "metric": r.metric, "generation": r.generation, "values": dict(r.values)}
            for r in results.references
            if r.metric in metrics
        ],
        "training": {
            arm: {
                "protocol": training.protocol,
                "rows": list(training.rows),
                "updates": list(training.updates),
                "epochs": list(training.epochs),
            }
            for arm, training in results.training.items()
        },
        **({"curations": curations} if curations else {}),
        "diverged": {
            arm: [{"seed": seed, "generation": k} for seed, k in by_seed.items()]
            for arm, by_seed in results.diverged.items()
        },
        "deaths": deaths_document(results, metrics),
        "problems": list(results.problems),
    }


def compare_document(
    by_label: Mapping[str, Results], merged: Results, metrics: Sequence[str], generations: Sequence[int] | None = None
) -> dict[str, Any]:
    """The document of `compare --json`: of one run, or of several with their differences as `merged` into one."""
    differences = differences_document(merged, metrics, generations)
    if len(by_label) == 1:
        return run_document(merged, metrics, generations) | differences
    documents = [run_document(run, [m for m in metrics if m in run.metrics], generations) for run in by_label.values()]
    return {"schema": SCHEMA, "runs": documents, **differences}


def differences_document(
    results: Results, metrics: Sequence[str], generations: Sequence[int] | None = None
) -> dict[str, Any]:
    """Paired differences of each arm to the baseline of its protocol, with 95 % intervals. "p" is two-sided, "p_holm"
    corrected for all arms with the same baseline; null for a single seed."""
    by_arm: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for group in by_protocol(results).values():
        for arm in (arm for arm in group.arms if arm != group.baseline):
            by_arm[arm] = {metric: [] for metric in metrics}
        for metric in metrics:
            for k in results.scored(metric, group.arms) if generations is None else generations:
                for arm, entry in _differences(group, metric, k).items():
                    by_arm[arm][metric].append(entry)
    baseline_of = baselines(results)
    ordered = {arm: by_arm[arm] for arm in baseline_of if arm in by_arm}
    return {"baseline": results.baseline, "baselines": baseline_of, "differences": ordered}


def _differences(group: Results, metric: str, k: int) -> dict[str, dict[str, Any]]:
    """Each arm minus the group's baseline at a generation; arms that share no seed with it are left out."""
    others = [arm for arm in group.arms if arm != group.baseline]
    differences = {arm: group.paired_difference(arm, group.baseline, metric, k) for arm in others}
    tests = paired_tests(group, metric, k, differences)
    return {
        arm: {
            "generation": k,
            **_summary(difference),
            "p": tests[arm].p if arm in tests else None,
            "p_holm": tests[arm].holm if arm in tests else None,
            "rows": _rows(of_difference(group, arm, group.baseline, metric, k)),
        }
        for arm, difference in differences.items()
        if difference is not None
    }


def csv_text(runs: Mapping[str, Results], metrics: Sequence[str], generations: Sequence[int] | None = None) -> str:
    """Tidy: one row per score, with the columns CSV_COLUMNS and one for each setting in which the arms of a run differ,
    as "arm.data.use". A field is empty if there is no theory, note, or interval over held-out rows (its number of rows
    and its ends)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    paths = list(dict.fromkeys(path for run in runs.values() for own in run.differing.values() for path in own))
    writer.writerow([*CSV_COLUMNS, *(f"arm.{path}" for path in paths)])
    for label, results in runs.items():
        for arm, *row in _csv_rows(label, results, metrics, generations):
            own = results.differing.get(arm, {})
            writer.writerow([*row, *(own.get(path) for path in paths)])
    return out.getvalue()


def score_rows(
    label: str, results: Results, metrics: Sequence[str], generations: Sequence[int] | None = None
) -> Iterator[ScoreRow]:
    """One row per score of a run that is called `label`; `generations` None: all scored ones."""
    for arm in results.arms:
        for metric in metrics:
            for k in results.scored(metric, [arm]) if generations is None else generations:
                theory = results.theory_at(arm, metric, k)
                for seed, value in results.scores(arm, metric, k).items():
                    yield ScoreRow(label, arm, metric, k, seed, value, theory)


def _csv_rows(
    label: str, results: Results, metrics: Sequence[str], generations: Sequence[int] | None
) -> Iterator[tuple[Any, ...]]:
    """(the arm, then the fields of CSV_COLUMNS)."""
    notes = {
        metric: "; ".join(text for of in (results.notes, results.warnings) if (text := of.get(metric)))
        for metric in metrics
    }
    for row in score_rows(label, results, metrics, generations):
        rows = of_mean(results, row.arm, row.metric, row.generation, [row.seed])
        over_rows = (None, None, None) if rows is None else (rows.n, rows.low, rows.high)
        yield row.arm, *row, notes[row.metric], *over_rows


def claim_entry(claim: RecordedClaim, verdict: Verdict) -> dict[str, Any]:
    """A claim with its verdict, as `verify --json` has it; null for a figure that is not finite."""
    names = ("left", "right", "difference", "low", "high", "margin", "p")
    values = {name: getattr(verdict, name) for name in names}
    return {
        "that": claim.that,
        "metric": claim.metric,
        "generation": claim.generation,
        "expect": claim.expect,
        "status": verdict.status,
        "reason": verdict.reason,
        "definition": verdict.definition,
        "decided_at": verdict.generation,
        "n": verdict.n,
        "rows": verdict.rows or None,
        **{name: finite(value) for name, value in values.items()},
        "seeds_needed": verdict.seeds_needed,
        "accounts_for": list(verdict.corrections),
        "protocols": list(verdict.protocols),
        "seeds": list(verdict.seeds),
        "kind": verdict.kind,
        "caveats": list(verdict.caveats),
    }


def _summary(interval: Interval) -> dict[str, Any]:
    return {
        "n": interval.n,
        "mean": finite(interval.mean),
        "low": finite(interval.low),
        "high": finite(interval.high),
    }


def _rows(interval: Interval | None) -> dict[str, Any] | None:
    """An interval over n held-out rows."""
    return None if interval is None else {"n": interval.n, "low": finite(interval.low), "high": finite(interval.high)}
