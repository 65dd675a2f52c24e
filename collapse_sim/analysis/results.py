"""What a run has found so far, read from run.json and journal.jsonl alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from collapse_sim.errors import StoreError
from collapse_sim.store.rundir import JOURNAL_FILE, REMAKE, RUN_FILE, read_journal, read_run

Better = Literal["lower", "higher"] | None
Scores = Mapping[str, Mapping[str, Mapping[int, Mapping[int, float]]]]  # [arm][metric][generation][seed]
Curves = Mapping[str, Mapping[str, Sequence[float | None]]]  # [arm][metric][generation]


@dataclass(frozen=True)
class Claim:
    """One claim of the recipe, as run.json keeps it."""

    that: str
    metric: str
    generation: int | Literal["last", "every"]
    expect: str


@dataclass(frozen=True)
class Reference:
    """Published figures, one an arm."""

    source: str
    metric: str
    generation: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Results:
    """Scores of all arms, with what they are compared to. Arms, seeds and metrics are in the recipe's order."""

    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Better]  # name -> the better direction
    generations: int  # the last generation's number; generation 0 is fitted to real data
    baseline: str  # the arm that differences are taken to
    values: Scores
    theory: Curves = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    claims: tuple[Claim, ...] = ()
    notes: Mapping[str, str] = field(
        default_factory=dict
    )  # metric -> what stands beside its figures, where it is known
    warnings: Mapping[str, str] = field(
        default_factory=dict
    )  # metric -> why not to quote them, where there is a reason
    problems: tuple[str, ...] = ()  # what is wrong with the journal: damaged lines, recorded scores that are gone

    def scores(self, arm: str, metric: str, generation: int) -> Mapping[int, float]:
        """{seed: value} in the order of `seeds`; empty when there is none."""
        return self.values.get(arm, {}).get(metric, {}).get(generation, {})

    def scored(self, metric: str, arms: Sequence[str] | None = None) -> list[int]:
        """Generations at which any of the arms has a score, ascending."""
        chosen = self.arms if arms is None else arms
        return sorted({k for arm in chosen for k in self.values.get(arm, {}).get(metric, {})})

    def theory_at(self, arm: str, metric: str, generation: int) -> float | None:
        """The theory curve's value, where there is one."""
        curve = self.theory.get(arm, {}).get(metric, ())
        return curve[generation] if generation < len(curve) else None

    def reference_at(self, metric: str, generation: int) -> Reference | None:
        """The published figures of this metric and generation, where there are some."""
        return next((r for r in self.references if (r.metric, r.generation) == (metric, generation)), None)


def read_results(run_dir: Path) -> Results:
    """Read a run directory. Raises StoreError when it is no run directory, damaged, or of a newer schema.

    The last score of an (arm, generation, metric, seed) counts. What run.json does not list (an arm or a seed of an
    earlier version of the recipe, a generation beyond its last) is left out; metrics added by `evaluate` are kept.
    """
    run = read_run(run_dir)
    try:
        lines, problems = read_journal(run_dir)
        return replace(_results(run, lines), problems=tuple(problems))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{run_dir}: {RUN_FILE} or {JOURNAL_FILE} is damaged ({type(error).__name__}: {error}); {REMAKE}"
        ) from error


def _results(run: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Results:
    arms, seeds, last = tuple(run["arms"]), tuple(run["seeds"]), int(run["generations"])
    metrics: dict[str, Better] = {name: _better(settings["better"]) for name, settings in run["metrics"].items()}
    found: dict[str, dict[str, dict[int, dict[int, float]]]] = {arm: {} for arm in arms}
    for line in lines:
        if line.get("event") != "scores" or line["arm"] not in found or line["generation"] > last:
            continue
        for metric, values in line["metrics"].items():
            metrics.setdefault(metric, None)
            by_seed = found[line["arm"]].setdefault(metric, {}).setdefault(line["generation"], {})
            for seed, value in zip(line["seeds"], values, strict=True):
                by_seed[seed] = float("nan") if value is None else float(value)
    ordered = {
        arm: {
            metric: {k: {s: by_seed[s] for s in seeds if s in by_seed} for k, by_seed in sorted(generations.items())}
            for metric, generations in by_metric.items()
        }
        for arm, by_metric in found.items()
    }
    reference = run.get("reference")
    return Results(
        name=run["name"],
        arms=arms,
        seeds=seeds,
        metrics=metrics,
        generations=last,
        baseline=run.get("baseline") or arms[0],
        values=ordered,
        theory=run.get("theory") or {},
        references=() if reference is None else (_reference(reference, last),),
        claims=tuple(Claim(c["that"], c["metric"], c["generation"], c["expect"]) for c in run.get("claims", ())),
        notes={name: entry["note"] for name, entry in run["metrics"].items() if entry.get("note")},
        warnings={name: entry["warning"] for name, entry in run["metrics"].items() if entry.get("warning")},
    )


def _better(word: str | None) -> Better:
    if word not in (*get_args(get_args(Better)[0]), None):
        raise ValueError(f"`better` is {word!r}, allowed: 'lower', 'higher', null")
    return word  # type: ignore[return-value]  # checked above


def _reference(reference: Mapping[str, Any], last: int) -> Reference:
    generation = reference["generation"]
    return Reference(
        reference["source"], reference["metric"], last if generation == "last" else int(generation), reference["values"]
    )


def merge(runs: Mapping[str, Results]) -> Results:
    """Several runs as one: every arm is named `LABEL/arm`. Equal seeds are the same draws in every run, so they pair.

    A metric that the runs disagree on is without a better direction.
    """
    metrics: dict[str, Better] = {}
    for run in runs.values():
        for metric, better in run.metrics.items():
            metrics[metric] = better if metrics.get(metric, better) == better else None
    return Results(
        name=" ".join(runs),
        arms=tuple(f"{label}/{arm}" for label, run in runs.items() for arm in run.arms),
        seeds=tuple(dict.fromkeys(seed for run in runs.values() for seed in run.seeds)),
        metrics=metrics,
        generations=max(run.generations for run in runs.values()),
        baseline=next(f"{label}/{run.baseline}" for label, run in runs.items()),
        values={f"{label}/{arm}": scores for label, run in runs.items() for arm, scores in run.values.items()},
        theory={f"{label}/{arm}": curves for label, run in runs.items() for arm, curves in run.theory.items()},
        references=_merged_references(runs),
        notes=_merged_texts({label: run.notes for label, run in runs.items()}),
        warnings=_merged_texts({label: run.warnings for label, run in runs.items()}),
        problems=tuple(problem for run in runs.values() for problem in run.problems),
    )


def _merged_texts(runs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The text of each metric, once where all runs say the same, or else each run's own."""
    merged: dict[str, str] = {}
    for metric in dict.fromkeys(name for texts in runs.values() for name in texts):
        said = {label: texts[metric] for label, texts in runs.items() if metric in texts}
        alike = len(said) == len(runs) and len(set(said.values())) == 1
        texts = said.values() if alike else (f"{label}: {text}" for label, text in said.items())
        merged[metric] = "; ".join(dict.fromkeys(texts))
    return merged


def _merged_references(runs: Mapping[str, Results]) -> tuple[Reference, ...]:
    """References to the same figures become one, over the arms of all runs."""
    merged: dict[tuple[str, str, int], dict[str, float]] = {}
    for label, run in runs.items():
        for r in run.references:
            values = merged.setdefault((r.source, r.metric, r.generation), {})
            values.update({f"{label}/{arm}": value for arm, value in r.values.items()})
    return tuple(Reference(*key, values) for key, values in merged.items())
