"""Expected variance along a chain of models that preserve the mean of their rows: exact for any distribution."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from collapse_sim.data.base import Data
from collapse_sim.data.sources import REAL, Chain, Plan, Source

Block = tuple[int, int]  # the generation of the rows, and the first row
Teaching = tuple[int, float]  # the teacher's generation, and the weight w of its cross entropy
MAX_WORK = 5e7  # sources of all generations x generations: seconds; 450 generations that accumulate


def variance_curve(
    metric: str,
    chain: Chain,
    data: Data,
    widen: Callable[[int, float], tuple[float, float]],
    *,
    mixes: bool = False,
) -> list[float] | None:
    """E[variance_ratio] of every generation of a chain; None for other metrics, and for data that is not drawn from a
    known distribution.

    `widen(n, trace)` is that of `expected_variance`, with the trace of the true covariance (its unit) as an argument.
    `mixes`: a model with a teacher has the moments of the mixture (see `expected_variance`); without `mixes` the result
    is None if there is a teacher.
    """
    true_covariance = getattr(data, "true_covariance", None)
    plans, has_teacher = chain.plans, any(chain.teachers)
    if metric != "variance_ratio" or (has_teacher and not mixes) or true_covariance is None or not data.seeded:
        return None
    if sum(len(plan.sources) for plan in plans) * len(plans) > MAX_WORK:
        return None
    trace = float(torch.as_tensor(true_covariance()).trace())
    teaching = [None if by is None else (by.generation, sum(by.weights.values())) for by in chain.teachers]
    return expected_variance(plans, lambda n: widen(n, trace), teaching)


class _Rows(NamedTuple):
    """Rows that are used together: their number, their mean as coefficients of the e, and E[their variance, 1/n]."""

    size: float
    mean: np.ndarray
    variance: float


def expected_variance(
    plans: Sequence[Plan],
    widen: Callable[[int], tuple[float, float]],
    teaching: Sequence[Teaching | None] | None = None,
) -> list[float]:
    """E[tr(covariance of the model)] of generations 0, 1, ..., in units of the trace of the true covariance.

    `plans[k]` is what generation k is fitted to. A model fitted to n rows has their mean, and `factor` x their
    covariance (the biased one, 1/n) + `added`, with `factor, added = widen(n)`: (1, 0) for a Gaussian by maximum
    likelihood.

    Let a block be rows that are always used together. Let b rows be drawn from a source of mean m and expected variance
    v. Given m, the block's mean is m + e with E|e|^2 = v / b, and its own expected variance is (1 - 1/b) v. Each e has
    mean 0 given all earlier draws, so the e are uncorrelated, and every mean is a sum of them with known coefficients:
    a model's mean is the average of its blocks' means, weighted by size. The expected variance of all rows together is
    the variance within blocks plus that between their means (the law of total variance). A subset of m rows out of n
    adds another such e, of size u (1/m - 1/n), with u the unbiased variance of the n rows, and leaves (1 - 1/m) u.

    `teaching[k]` = (t, w): the model of generation k has the moments of the mixture (rows + w x model t) / (1 + w), as
    a Gaussian has that minimises mean negative log-likelihood + w x cross entropy under its teacher. Its mean is again
    a sum of the e, and its variance is that within both plus that between their means.

    Only expectations of squares are used, so the only condition on a distribution is a finite variance.

    The closed forms are special cases: replace gives (1 - 1/N)^t after t fits (Shumailov et al. 2024), accumulate the
    product of 1 - 1/(N i^2) over i <= t (Kazdan et al. 2024).
    """
    blocks = _blocks(plans)
    units = {block: i for i, block in enumerate(blocks)}  # index of the e of each block; those of subsets follow
    of_generation: dict[int, list[Block]] = {}
    for block in blocks:
        of_generation.setdefault(block[0], []).append(block)
    subsets = itertools.count(len(blocks))
    source_subsets = sum(source.among is not None for plan in plans for source in plan.sources)
    squares = np.zeros(len(blocks) + source_subsets + sum(plan.budget is not None for plan in plans))  # E|e|^2
    means = {REAL: np.zeros_like(squares)}
    variances = {REAL: 1.0}

    def rows_of(source: Source) -> list[_Rows]:
        last = source.first + (source.rows if source.among is None else source.among)
        used = [block for block in of_generation[source.generation] if source.first <= block[1] < last]
        variance, parts = variances[source.generation], []
        for block in used:
            centre, size = means[source.generation].copy(), blocks[block]
            centre[units[block]] = 1.0
            squares[units[block]] = variance / size
            parts.append(_Rows(size, centre, (1 - 1 / size) * variance))
        return parts if source.among is None else [subset(merged(parts), source.rows)]

    def merged(parts: Sequence[_Rows]) -> _Rows:
        sizes = np.array([part.size for part in parts], dtype=float)
        centres, within = np.stack([part.mean for part in parts]), np.array([part.variance for part in parts])
        shares = sizes / sizes.sum()
        mean = shares @ centres
        return _Rows(int(sizes.sum()), mean, float(shares @ (within + (centres - mean) ** 2 @ squares)))

    def subset(rows: _Rows, m: int) -> _Rows:
        unbiased = rows.variance * rows.size / (rows.size - 1) if rows.size > 1 else 0.0
        mean, unit = rows.mean.copy(), next(subsets)
        mean[unit], squares[unit] = 1.0, unbiased * (1 / m - 1 / rows.size)
        return _Rows(m, mean, unbiased * (1 - 1 / m))

    for k, plan in enumerate(plans):
        rows = merged([part for source in plan.sources for part in rows_of(source)])
        if plan.rows < rows.size:
            rows = subset(rows, plan.rows)
        factor, added = widen(plan.rows)
        mean, variance = rows.mean, factor * rows.variance + added
        teacher_and_weight = teaching[k] if teaching else None
        if teacher_and_weight is not None:
            teacher, weight = teacher_and_weight
            a = 1 / (1 + weight)
            between = float((mean - means[teacher]) ** 2 @ squares)
            mean = a * mean + (1 - a) * means[teacher]
            variance = a * variance + (1 - a) * variances[teacher] + a * (1 - a) * between
        means[k], variances[k] = mean, variance
    return [variances[k] for k in range(len(plans))]


def _blocks(plans: Sequence[Plan]) -> dict[Block, int]:
    """All blocks with their numbers of rows: the first and last rows of sources divide each generation into blocks."""
    ends: dict[int, set[int]] = {}
    for plan in plans:
        for source in plan.sources:
            last = source.first + (source.rows if source.among is None else source.among)
            ends.setdefault(source.generation, set()).update((source.first, last))
    return {(g, a): b - a for g, cuts in ends.items() for a, b in pairwise(sorted(cuts))}
