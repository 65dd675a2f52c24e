"""Which rows of its sources a fit takes when its plan has them drawn: by (seed, generation), the same in every arm.

Samples may be made for conditions: a regression's x, the article of a summary, the prompt of a text. Sample i is made
for the condition of real row n - 1 - i, of the n real rows that generation 0 is fitted to. A model fitted to a real row
and to a sample for the same condition has seen one condition and not two, which with half of the rows of each kind can
be worse than having no real rows at all. So drawn rows cover as many different conditions as possible. Classes, which
many rows have in common (families.hooks.ReusesConditions), need no such care: rows are drawn as without conditions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import conditions_of
from collapse_sim.data.sources import REAL, Source
from collapse_sim.families.hooks import conditioning_of, conditions_are_reused
from collapse_sim.plan.specs import FitSpec


def conditions_at(real: int, first: int, last: int) -> np.ndarray:
    """Whose conditions samples first, ..., last - 1 are made for: places among the `real` rows in a seed's order, from
    the last one backwards, as often as it takes."""
    return real - 1 - np.arange(first, last) % real


def drawn(spec: FitSpec, seed: int) -> list[np.ndarray | None]:
    """The rows of each of the plan's sources, (source.rows,) int64; real ones by their place in the seed's order.

    None where nothing is drawn: rows first, ..., first + rows - 1.
    """
    sources = spec.plan.sources
    chosen: list[np.ndarray | None] = [None] * len(sources)
    if all(source.among is None for source in sources):
        return chosen
    offered = _conditions(spec, sources)
    counts = [source.rows for source in sources]
    rank = _permutation(spec, seed, "redraw", 1 + max(int(conditions.max(initial=-1)) for conditions in offered))
    fixed = [source.among is None for source in sources]
    for i, rows in enumerate(_apart(sources, offered, counts, rank, fixed)):
        chosen[i] = None if fixed[i] else sources[i].first + rows
    return chosen


def drawn_by_all(spec: FitSpec, seeds: Sequence[int]) -> list[Sequence[np.ndarray | None]]:
    """Of each of the plan's sources what `drawn` gives for every seed."""
    if all(source.among is None for source in spec.plan.sources):
        return [[None] * len(seeds)] * len(spec.plan.sources)
    return list(zip(*(drawn(spec, seed) for seed in seeds), strict=True))


def subsample(spec: FitSpec, seed: int) -> np.ndarray | None:
    """Which rows of all sources together, (budget,) int64, a plan with a budget takes; None without a budget."""
    plan = spec.plan
    if plan.budget is None:
        return None
    sizes = np.array([source.rows for source in plan.sources])
    ends = np.cumsum(sizes)
    pick = _permutation(spec, seed, "subsample", int(ends[-1]))[: plan.rows]
    if plan.rows == ends[-1] or not _conditional(spec) or any(source.among is not None for source in plan.sources):
        return pick
    counts = np.bincount(np.searchsorted(ends, pick, side="right"), minlength=len(sizes))
    offered = _conditions(spec, plan.sources)
    rank = _permutation(spec, seed, "conditions", 1 + max(int(conditions.max(initial=-1)) for conditions in offered))
    chosen = _apart(plan.sources, offered, counts.tolist(), rank, [False] * len(sizes))
    return np.concatenate([start + rows for start, rows in zip(ends - sizes, chosen, strict=True)])


def _permutation(spec: FitSpec, seed: int, role: str, rows: int) -> np.ndarray:
    return Draws((seed,), role, spec.generation).permutation(rows).numpy()


def _conditional(spec: FitSpec) -> bool:
    apart = conditioning_of(spec.family) == "real" and not conditions_are_reused(spec.family)
    return apart and bool(conditions_of(spec.data.data, spec.family))


def _conditions(spec: FitSpec, sources: Sequence[Source]) -> list[np.ndarray]:
    """The condition of each row that a source may take, as a number; without conditions every row has its own."""
    spans = [(s.first, s.first + (s.rows if s.among is None else s.among)) for s in sources]
    if not _conditional(spec):
        starts = np.cumsum([0, *(last - first for first, last in spans)])
        return [start + np.arange(last - first) for start, (first, last) in zip(starts[:-1], spans, strict=True)]
    real = spec.data.info.rows
    return [
        np.arange(*span) if source.generation == REAL else conditions_at(real, *span)
        for source, span in zip(sources, spans, strict=True)
    ]


def _apart(
    sources: Sequence[Source],
    offered: Sequence[np.ndarray],
    counts: Sequence[int],
    rank: np.ndarray,
    fixed: Sequence[bool],
) -> list[np.ndarray]:
    """`counts[i]` rows of each source: those whose conditions were taken least often so far, then by `rank`.

    `fixed` sources take their first rows; samples, which have fewer conditions to choose from, go before real rows.
    """
    taken = np.zeros(len(rank), dtype=np.int64)
    chosen: dict[int, np.ndarray] = {}
    for i in sorted(range(len(sources)), key=lambda i: (not fixed[i], sources[i].generation == REAL)):
        conditions = offered[i]
        order = np.arange(len(conditions)) if fixed[i] else np.lexsort((rank[conditions], taken[conditions]))
        chosen[i] = order[: counts[i]]
        taken[conditions[chosen[i]]] += 1
    return [chosen[i] for i in range(len(sources))]
