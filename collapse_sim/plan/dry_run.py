"""`run --dry-run`: what a run would do, generation by generation, and how much of it already exists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from collapse_sim.data.sources import REAL, Source
from collapse_sim.plan.costs import Prediction, Rate, predict
from collapse_sim.plan.curation_specs import CurationSpec
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import Ends, held_to_the_end, most_bytes, seeds_to_come
from collapse_sim.plan.protocol import training_of, warnings_of
from collapse_sim.plan.sizes import bytes_to_come
from collapse_sim.plan.specs import LISTED, FitSpec
from collapse_sim.store.spec import Spec


def plan_document(
    experiment: Experiment,
    store: Path,
    rates: Mapping[str, Rate] | None = None,
    bench: str = "",
    ends: Ends | None = None,
    fetchable: Mapping[str, Collection[int]] | None = None,
) -> dict[str, Any]:
    """The plan as JSON: rows, updates and sources of every fit, artefacts to make and to reuse, bytes to write, time.

    `rates`: of earlier artefacts, by kind (earlier.py); `bench`: the command that measures what they cannot tell;
    `ends`: where chains of the run have diverged; `fetchable`: {digest: seeds} of what a mirror of the store has.
    """
    recipe = experiment.recipe
    specs = list(experiment.specs())
    seeds_of = seeds_to_come(experiment, store, ends)
    missing_seeds = {spec.digest: set(seeds_of(spec)) for spec in specs}
    of_mirror = {spec.digest: missing_seeds[spec.digest] & {*(fetchable or {}).get(spec.digest, ())} for spec in specs}

    def coming(spec: Spec) -> int:
        return len(missing_seeds[spec.digest])

    def made(spec: Spec) -> int:
        return coming(spec) - len(of_mirror[spec.digest])

    to_make, fetched = sum(map(made, specs)), sum(map(len, of_mirror.values()))
    all_of = sum(len(recipe.seeds) if spec.seeded else 1 for spec in specs)
    arms: dict[str, list[dict[str, Any]]] = {}
    for arm_plan in experiment.arm_plans:
        training = training_of(arm_plan)
        arms[arm_plan.name] = [
            {
                "generation": k,
                "rows": plan.rows.rows,
                "samples": plan.samples.rows,
                "steps": training["updates"][k] if training and plan.fitted else None,
                "epochs": training["epochs"][k] if training and plan.fitted else None,
                "sources": _sources_document(plan.rows.sources, plan.fit),
                **({} if plan.samples.imported is None else {"rows_from": "files", "fitted": plan.fitted}),
                **({"chosen_among": chosen.candidates} if (chosen := plan.fit.curation) else {}),
                "teacher": teacher.generation if (teacher := plan.fit.teacher) else None,
                "fits_to_make": sum(made(s) for s in plan.specs() if isinstance(s, FitSpec) and s.given is None),
                **({"imported": given.name} if (given := plan.fit.given) else {}),
            }
            for k, plan in enumerate(arm_plan.generations)
        ]
    return {
        "schema": 1,
        "name": recipe.name,
        "seeds": list(recipe.seeds),
        "samples": experiment.counts.samples,
        "artefacts": {
            "to_make": to_make,
            "reused": all_of - to_make - fetched,
            **({} if fetchable is None else {"fetched": fetched}),
        },
        "bytes_to_come": bytes_to_come(experiment, coming),
        "keep": _keep_document(experiment, coming),
        "time": _time(predict(experiment, made, rates or {}), bench),
        "protocols": {plan.name: plan.protocol for plan in experiment.arm_plans},
        "warnings": warnings_of(experiment),
        "arms": arms,
    }


def _keep_document(experiment: Experiment, coming: Callable[[Spec], int]) -> dict[str, Any]:
    """What stays in the store; the most bytes that the run adds to it at any time; the arms whose samples are all
    needed until the end."""
    recipe = experiment.recipe
    return {
        "weights": recipe.keep_weights,
        "samples": recipe.keep_samples,
        "most_bytes": most_bytes(experiment, coming),
        "until_the_end": held_to_the_end(experiment),
    }


def _keep_lines(plan: Mapping[str, Any]) -> list[str]:
    keep = plan["keep"]
    if keep["weights"] == keep["samples"] == "all":
        return []
    lines = [
        f"keeps weights: {keep['weights']}, samples: {keep['samples']}; at any time at most about "
        f"{keep['most_bytes'] / 1e6:.1f} MB more on the disk"
    ]
    if arms := keep["until_the_end"]:
        lines.append(f"samples of earlier generations are removed at the end only: needed by {', '.join(arms)}")
    return lines


def _time(prediction: Prediction, bench: str) -> dict[str, Any]:
    """Seconds to come, or None where no such fits or samples were made before; "without": artefacts not in the sum."""
    known = not {"fit", "samples"} & prediction.unknown.keys()
    return {
        "seconds": round(prediction.total_s, 1) if known else None,
        "from": "earlier artefacts" if known else None,
        "without": dict(prediction.unknown) if known else {},
        "bench": bench,
    }


def _sources_document(sources: tuple[Source, ...], fit: FitSpec) -> list[dict[str, Any]]:
    """Sources as JSON; a long list keeps the first two, the number and the rows of those between, and the last.

    `candidates`: of how many generated rows a curation has chosen those that the source takes from.
    """
    if len(sources) > LISTED:
        between = sources[2:-1]
        more = {"more": len(between), "rows": sum(source.rows for source in between)}
        return [*_sources_document(sources[:2], fit), more, *_sources_document(sources[-1:], fit)]
    return [
        {"from": "real" if s.generation == REAL else s.generation, "rows": s.rows}
        | ({} if s.among is None else {"drawn_among": s.among})
        | ({"candidates": past.candidates} if isinstance(past := fit.past.get(s.generation), CurationSpec) else {})
        for s in sources
    ]


def plan_text(plan: dict[str, Any], time: str = "") -> str:
    """The plan document as text for people; `time`: the line about its time, which `plan` has as numbers."""
    artefacts, seeds = plan["artefacts"], plan["seeds"]
    shown = ", ".join(map(str, seeds)) if len(seeds) <= 10 else f"{seeds[0]}..{seeds[-1]} ({len(seeds)})"
    lines = [
        f"{plan['name']}: seeds {shown}; {plan['samples']} samples per generation",
        f"artefacts: {artefacts['to_make']} to make, {artefacts['reused']} there already"
        + (f", {artefacts['fetched']} to fetch from the mirror; " if "fetched" in artefacts else "; ")
        + f"about {plan['bytes_to_come'] / 1e6:.1f} MB to write",
        *_keep_lines(plan),
        *([time] if time else []),
    ]
    lines += [f"warning: {warning}" for warning in plan["warnings"]]
    for arm, generations in plan["arms"].items():
        protocol = plan["protocols"][arm]
        own = [entry["samples"] for entry in generations]
        notes = [f"protocol: {protocol}"] if protocol else []
        span = f"{min(own)}" if min(own) == max(own) else f"{min(own)} to {max(own)}"
        notes += [f"{span} samples per generation"] if {*own} != {plan["samples"]} else []
        lines.append(f"\n{arm}" + (f" ({'; '.join(notes)})" if notes else ""))
        counts = f"{'generation':>10} {'rows':>9} {'updates':>9} {'epochs':>7}"
        lines.append(f"  {counts}  {'teacher':>7}  {'to fit':>6}  made from")
        for entry in generations:
            made_from = _sources(entry["sources"])
            if "chosen_among" in entry:
                made_from = f"{entry['rows']} of {entry['chosen_among']}: {made_from}"
            if "rows_from" in entry:
                made_from = f"{made_from}; its rows: from files" if entry["fitted"] else "rows: from files"
            most = "<= " if protocol == "converged" else ""
            rows, solved = (entry["rows"], "solved") if entry.get("fitted", True) else ("-", "-")
            steps = solved if entry["steps"] is None else f"{most}{entry['steps']}"
            epochs = "-" if entry["epochs"] is None else f"{most}{entry['epochs']:.4g}"
            if "imported" in entry:
                made_from, steps, epochs = f"imported: {entry['imported']}", "-", "-"
            teacher = "-" if entry["teacher"] is None else entry["teacher"]
            lines.append(
                f"  {entry['generation']:>10} {rows:>9} {steps:>9} {epochs:>7}  {teacher!s:>7}  "
                f"{entry['fits_to_make']:>6}  {made_from}"
            )
    return "\n".join(lines)


def _sources(sources: list[dict[str, Any]]) -> str:
    words = [_source(source) for source in sources]
    return " + ".join(words if len(words) <= 4 else [*words[:2], "...", words[-1]])


def _source(source: dict[str, Any]) -> str:
    if "more" in source:
        return "..."
    rows = f"{source['rows']} drawn among {source['drawn_among']}" if "drawn_among" in source else source["rows"]
    if "candidates" in source:
        rows = f"{rows} of {source['candidates']}"
    return f"{rows} real" if source["from"] == "real" else f"{rows} of {source['from']}"
