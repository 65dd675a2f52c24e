"""Results as pandas data frames: the same figures as the JSON documents, a row each. Missing figures are NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from collapse_sim.analysis.collapse_definitions import DefinitionVerdict, definition_verdicts, definitions_document
from collapse_sim.analysis.documents import ScoreRow, claim_entry, differences_document, run_document, score_rows
from collapse_sim.analysis.fit_costs import cost_entry
from collapse_sim.analysis.fit_records import FitRecord, LossRecord
from collapse_sim.analysis.rates import MetricRate, rates, rates_document
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.verdicts import decide_all

if TYPE_CHECKING:
    from pandas import DataFrame

SUMMARY = ("n", "mean", "low", "high")
DIFFERENCE = ("difference_n", "difference", "difference_low", "difference_high", "p", "p_holm")
ROWS = ("rows_n", "rows_low", "rows_high")
COMPARED = ("arm", "metric", "generation", *SUMMARY, *ROWS, "theory", "baseline", *DIFFERENCE, "better", "unit")
HISTORY = ("arms", "generation", "seed", "digest", *LossRecord._fields)
_TYPES = {  # of columns, whatever the rows of a run hold
    **dict.fromkeys(("generation", "seed", "n", "step", "updates", "bytes", "samples_bytes"), "int64"),
    **dict.fromkeys(("rows_n", "difference_n", "decided_at"), "Int64"),  # <NA> where there is none
    **dict.fromkeys(("value", "theory", "mean", "low", "high", "rows_low", "rows_high", "difference"), "float64"),
    **dict.fromkeys(("difference_low", "difference_high", "left", "right", "margin", "p", "p_holm"), "float64"),
    **dict.fromkeys(("epoch", "train_loss", "validation_loss", "fit_s", "rows_per_s", "sampling_s"), "float64"),
}


def scores_frame(
    runs: Mapping[str, Results], metrics: Sequence[str], generations: Sequence[int] | None = None
) -> DataFrame:
    """The rows of `compare --csv`, one per score, with the columns of ScoreRow; `generations` None: all scored ones."""
    rows = [row for label, results in runs.items() for row in score_rows(label, results, metrics, generations)]
    return _frame(list(map(ScoreRow._asdict, rows)), ScoreRow._fields)


def compared_frame(results: Results, metrics: Sequence[str], generations: Sequence[int] | None = None) -> DataFrame:
    """The figures of `compare --json`, a row per arm, metric and generation, with the columns COMPARED."""
    document = run_document(results, metrics, generations) | differences_document(results, metrics, generations)
    rows = []
    for arm, by_metric in document["arms"].items():
        baseline, differences = document["baselines"][arm], document["differences"].get(arm, {})
        for metric, entries in by_metric.items():
            against = {entry["generation"]: entry for entry in differences.get(metric, ())}
            facts = {key: document["metrics"][metric][key] for key in ("better", "unit")}
            for entry in entries:
                k = entry["generation"]
                row = {"arm": arm, "metric": metric, "generation": k, "baseline": baseline, **facts}
                row |= {key: entry[key] for key in SUMMARY} | {"theory": results.theory_at(arm, metric, k)}
                row |= {f"rows_{key}": value for key, value in (entry["rows"] or {}).items()}
                if k in against:
                    values = (against[k][key] for key in (*SUMMARY, "p", "p_holm"))
                    row |= dict(zip(DIFFERENCE, values, strict=True))
                rows.append(row)
    return _frame(rows, COMPARED)


def claims_frame(results: Results) -> DataFrame:
    """The claims of `verify --json`, a row each, in the recipe's order."""
    pairs = zip(results.claims, decide_all(results.claims, results), strict=True)
    rows = [claim_entry(claim, verdict) for claim, verdict in pairs]
    columns = tuple(rows[0]) if rows else ("that", "metric", "generation", "expect", "status", "reason")
    return _frame(rows, columns, {"generation": "object", "n": "Int64", "rows": "Int64"})  # "last" is one, too


def definitions_frame(results: Results) -> DataFrame:
    """The verdicts of `compare --definitions --json`, a row per arm and definition of collapse."""
    rows = definitions_document(definition_verdicts(results))
    floats = dict.fromkeys(("figure", "low", "high", "p", "before", "after", "relative"), "float64")
    return _frame(rows, [field.name for field in fields(DefinitionVerdict)], {**floats, "generation": "Int64"})


def rates_frame(results: Results, metrics: Sequence[str] | None = None) -> DataFrame:
    """The rates of `compare --rates --json`, a row per metric and arm that has two generations."""
    rows = rates_document(rates(results, metrics))
    return _frame(
        rows, [field.name for field in fields(MetricRate)], dict.fromkeys(("slope", "shape_p", "limit"), "float64")
    )


def history_frame(records: Sequence[FitRecord]) -> DataFrame:
    """A row per evaluation of each fit of a network, with the columns HISTORY. "arms" is a tuple: what several
    arms share is listed once."""
    rows = [
        {"arms": record.arms, "generation": record.generation, "seed": seed, "digest": record.digest}
        | evaluation._asdict()
        for record in records
        for seed in record.seeds[:1]
        for evaluation in record.evaluations
    ]
    return _frame(rows, HISTORY)


def costs_frame(records: Sequence[FitRecord]) -> DataFrame:
    """The fits of `status --costs --json`, a row each, in seconds and bytes. "arms" and "seeds" are tuples."""
    rows = [cost_entry(record) | {"arms": record.arms, "seeds": record.seeds} for record in records]
    return _frame(rows, tuple(rows[0]) if rows else ("generation", "arms", "seeds"))


def _frame(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], types: Mapping[str, str] | None = None
) -> DataFrame:
    """The rows with these columns; `types` in place of those of _TYPES."""
    import pandas as pd

    frame = pd.DataFrame([[row.get(name) for name in columns] for row in rows], columns=list(columns))
    return frame.astype({name: kind for name, kind in {**_TYPES, **(types or {})}.items() if name in columns})
