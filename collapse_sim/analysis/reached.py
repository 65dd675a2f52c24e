"""The progress of arms, and the last generation at which they can be compared: the last that all of them have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from collapse_sim.analysis.results import Results
from collapse_sim.ui import formatting


def generations_of(results: Results, metrics: Iterable[str], arm: str) -> set[int]:
    """Generations at which the arm has a score of any of the metrics."""
    return {k for metric in metrics for k in results.scored(metric, [arm])}


def common(results: Results, metrics: Sequence[str], arms: Iterable[str] | None = None) -> int | None:
    """The last generation that all arms with any score have; None if no arm has a score."""
    by_arm = [generations_of(results, metrics, arm) for arm in (results.arms if arms is None else arms)]
    started = [generations for generations in by_arm if generations]
    return max(set.intersection(*started) or set.union(*started)) if started else None


def by_last(results: Results, metrics: Sequence[str]) -> dict[int, list[str]]:
    """{last generation: the arms that have reached it}, ascending; -1 for arms without any score."""
    by_generation: dict[int, list[str]] = {}
    for arm in results.arms:
        by_generation.setdefault(max(generations_of(results, metrics, arm), default=-1), []).append(arm)
    return dict(sorted(by_generation.items()))


def progress_elsewhere(results: Results, metrics: Sequence[str], generation: int) -> str:
    """Which arms are beyond or before a generation; "" if none is."""
    parts = []
    for last, arms in by_last(results, metrics).items():
        if last != generation:
            where = "without scores yet" if last < 0 else f"at {last}"
            parts.append(f"{formatting.arms(arms, len(results.arms))} {where}")
    return ", ".join(parts)


def unfinished(results: Results) -> str:
    """The progress of an incomplete run: "has reached generation 1; the recipe goes to 4"; "" if it is complete."""
    by_generation = by_last(results, list(results.metrics))
    if list(by_generation) == [results.generations]:
        return ""
    if list(by_generation) == [-1]:
        so_far = "no scores yet"
    elif len(by_generation) == 1:
        so_far = f"has reached generation {next(iter(by_generation))}"
    else:
        so_far = progress_elsewhere(results, list(results.metrics), -2)
    return f"{so_far}; the recipe goes to {results.generations}"


def divergences(results: Results, arms: Iterable[str] | None = None) -> list[str]:
    """The diverged seeds of every arm: "replace: seed 1 diverged at generation 2"."""
    texts = []
    for arm in results.arms if arms is None else arms:
        by_generation: dict[int, list[int]] = {}
        for seed, k in results.diverged.get(arm, {}).items():
            by_generation.setdefault(k, []).append(seed)
        for k, seeds in sorted(by_generation.items()):
            label = formatting.seeds(seeds, len(seeds) + 1)
            texts.append(f"{arm}: {label} diverged at generation {k}")
    return texts
