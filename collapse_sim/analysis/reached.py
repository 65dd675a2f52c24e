"""How far arms have come, and the last generation at which they can be compared: the last that all of them have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from collapse_sim.analysis.results import Results
from collapse_sim.ui import formatting


def generations_of(results: Results, metrics: Iterable[str], arm: str) -> set[int]:
    """Generations at which the arm has a score of any of the metrics."""
    return {k for metric in metrics for k in results.scored(metric, [arm])}


def common(results: Results, metrics: Sequence[str], arms: Iterable[str] | None = None) -> int | None:
    """The last generation that all of the arms have, but for those without any score yet; None when no arm has one."""
    found = [generations_of(results, metrics, arm) for arm in (results.arms if arms is None else arms)]
    begun = [generations for generations in found if generations]
    return max(set.intersection(*begun) or set.union(*begun)) if begun else None


def by_last(results: Results, metrics: Sequence[str]) -> dict[int, list[str]]:
    """{last generation: the arms that have come so far}, ascending; -1 for arms without any score."""
    found: dict[int, list[str]] = {}
    for arm in results.arms:
        found.setdefault(max(generations_of(results, metrics, arm), default=-1), []).append(arm)
    return dict(sorted(found.items()))


def apart(results: Results, metrics: Sequence[str], generation: int) -> str:
    """Which arms are further than a generation, and which have not come to it; "" for none."""
    parts = []
    for last, arms in by_last(results, metrics).items():
        if last != generation:
            where = "without scores yet" if last < 0 else f"at {last}"
            parts.append(f"{formatting.arms(arms, len(results.arms))} {where}")
    return ", ".join(parts)


def unfinished(results: Results) -> str:
    """What a run still lacks: "has reached generation 1; the recipe goes to 4"; "" when it is complete."""
    found = by_last(results, list(results.metrics))
    if list(found) == [results.generations]:
        return ""
    if list(found) == [-1]:
        so_far = "no scores yet"
    elif len(found) == 1:
        so_far = f"has reached generation {next(iter(found))}"
    else:
        so_far = apart(results, list(results.metrics), -2)
    return f"{so_far}; the recipe goes to {results.generations}"


def ended(results: Results, arms: Iterable[str] | None = None) -> list[str]:
    """Of every arm the seeds that diverged, with their generations: "replace: seed 1 diverged at generation 2"."""
    found = []
    for arm in results.arms if arms is None else arms:
        by_generation: dict[int, list[int]] = {}
        for seed, k in results.diverged.get(arm, {}).items():
            by_generation.setdefault(k, []).append(seed)
        for k, seeds in sorted(by_generation.items()):
            which = formatting.seeds(seeds, len(seeds) + 1)
            found.append(f"{arm}: {which} diverged at generation {k}")
    return found
