"""Which runs, metrics, arms, generations and seeds are asked for; errors name what there is.

`option` is how an error names what was asked for: "--metric" on the command line, "metric" in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from collapse_sim.analysis.reached import common
from collapse_sim.analysis.results import Results
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean


def labelled(read: Mapping[Path, Results]) -> dict[str, Path]:
    """{label: folder} of runs: a run's name, or its folder where several runs have the same name."""
    names = [results.name for results in read.values()]
    return {r.name if names.count(r.name) == 1 else str(folder): folder for folder, r in read.items()}


def checked_names(option: str, names: Sequence[str], allowed: Sequence[str], allowed_label: str) -> list[str]:
    """`names` without duplicates. Raises RecipeError with every name that is not allowed."""
    problems = [
        f"{option}: there is no {name!r}{did_you_mean(name, list(allowed))}; {allowed_label}: {', '.join(allowed)}"
        for name in names
        if name not in allowed
    ]
    if problems:
        raise RecipeError(*problems)
    return list(dict.fromkeys(names))


def chosen_generations(
    asked: str | int | None, results: Results, metrics: Sequence[str], option: str = "--generation"
) -> list[int] | None:
    """The generations that are asked for by number, "last" (the last that all arms have) or "all"; None: all that are
    scored. Raises RecipeError for anything else, and for a generation without scores."""
    if asked in (None, "all"):
        return None
    if asked == "last":
        last = common(results, metrics)
        return [] if last is None else [last]
    scored = sorted({k for metric in metrics for k in results.scored(metric)})
    if not str(asked).isdecimal():
        raise RecipeError(f"{option}: {asked!r} is not a generation; allowed: a number, 'last', 'all'")
    number = int(str(asked))
    if number not in scored:
        scored_text = f"scored are: {', '.join(map(str, scored))}" if scored else "none is scored yet"
        raise RecipeError(
            f"{option}: generation {number} has no scores (the recipe ends at {results.generations}); {scored_text}"
        )
    return [number]


def check_cells(
    results: Results, arms: Sequence[str], generations: Sequence[int], seeds: Sequence[int], option: str = "--"
) -> None:
    """Raise RecipeError for every arm, generation and seed that the run does not have; `option` is put before these
    words."""
    problems = [
        f"{option}arm {name}: no such arm{did_you_mean(name, list(results.arms))}; allowed: {', '.join(results.arms)}"
        for name in arms
        if name not in results.arms
    ]
    last = results.generations
    problems += [
        f"{option}generation {k}: this run has generations 0 to {last}" for k in generations if not 0 <= k <= last
    ]
    of_run = ", ".join(map(str, results.seeds))
    problems += [f"{option}seed {seed}: this run has seeds {of_run}" for seed in seeds if seed not in results.seeds]
    if problems:
        raise RecipeError(*problems)
