"""Which scores of a run are missing, in as few lines as possible."""

from __future__ import annotations

from collections.abc import Sequence

from collapse_sim.analysis.results import Results
from collapse_sim.ui import formatting


def missing_scores(results: Results) -> list[str]:
    """What the recipe asks for and the journal lacks: "replace, generations 2 to 5: no scores", "distill, generation 1:
    fid is missing for seed 3"; [] if nothing is missing. Diverged chains are not missing: they have ended."""
    metrics = results.metrics_without_parts()
    arms_of: dict[tuple[tuple[int, ...], tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for arm in results.arms:
        generations: dict[tuple[tuple[str, ...], tuple[int, ...]], list[int]] = {}
        for k in range(results.generations + 1):
            for seeds, names in _missing_at(results, arm, metrics, k).items():
                generations.setdefault((tuple(names), seeds), []).append(k)
        for (names_of, seeds), ks in generations.items():
            arms_of.setdefault((tuple(ks), names_of, seeds), []).append(arm)
    return [
        f"{_named(arms, len(results.arms))}, generation{'s' * (len(ks) > 1)} {ranges(ks)}: "
        + _what(results, metrics, names, seeds)
        for (ks, names, seeds), arms in sorted(arms_of.items(), key=lambda item: item[0][0])
    ]


def _missing_at(
    results: Results, arm: str, metrics: Sequence[str], generation: int
) -> dict[tuple[int, ...], list[str]]:
    """{seeds: the metrics that lack just these}."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for metric in metrics:
        scores = results.scores(arm, metric, generation)
        seeds = tuple(seed for seed in results.seeds if seed not in scores)
        if seeds:
            by_seeds.setdefault(seeds, []).append(metric)
    return by_seeds


def _named(arms: Sequence[str], of: int) -> str:
    return "all arms" if len(arms) == of > 1 else ", ".join(arms)


def _what(results: Results, metrics: Sequence[str], names: Sequence[str], seeds: Sequence[int]) -> str:
    every_metric, every_seed = len(names) == len(metrics), len(seeds) == len(results.seeds)
    if every_metric and every_seed:
        return "no scores"
    subject = (
        "no metric is scored" if every_metric else f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
    )
    return subject if every_seed else f"{subject} for seed{'s' * (len(seeds) > 1)} {ranges(seeds)}"


def ranges(numbers: Sequence[int]) -> str:
    """ "0", "2 to 5", "0, 1, 4 to 9": numbers in ascending order, three or more in a row as a range."""
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return ", ".join(f"{row[0]} to {row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows)


def progress(results: Results) -> str:
    """How many of the planned scores are there: "120 of 180 scores"."""
    metrics = results.metrics_without_parts()
    present = sum(
        len(results.scores(arm, metric, k))
        for arm in results.arms
        for metric in metrics
        for k in range(results.generations + 1)
    )
    planned = len(results.arms) * len(metrics) * (results.generations + 1) * len(results.seeds)
    return f"{formatting.count(present)} of {formatting.count(planned)} scores"
