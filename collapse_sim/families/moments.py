"""Expected variance along a chain of models that keep the mean of their rows: exact, whatever the distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from collapse_sim.data.base import Data
from collapse_sim.strategies import REAL, Plan, RowCounts, generation_zero

if TYPE_CHECKING:
    from collapse_sim.recipe.schema import Arm

Block = tuple[int, int]  # the generation that rows are of, and the first of them
LONGEST = 5e7  # sources of all generations x generations: seconds; 450 generations that accumulate


def variance_curve(
    metric: str,
    arm: Arm,
    counts: RowCounts,
    data: Data,
    generations: int,
    widen: Callable[[int, float], tuple[float, float]],
) -> list[float] | None:
    """E[variance_ratio] of an arm at generations 0..`generations`; None for other metrics, with a teacher, or for data
    that is not drawn from a known distribution.

    `widen(n, trace)` is that of `expected_variance` with the trace of the true covariance, which its unit is.
    """
    tell = getattr(data, "true_covariance", None)
    taught = arm.teacher is not None and arm.teacher.active
    if metric != "variance_ratio" or taught or tell is None or not data.seeded:
        return None
    plans = [generation_zero(counts), *(arm.strategy.plan(k, counts) for k in range(1, generations + 1))]
    if sum(len(plan.sources) for plan in plans) * len(plans) > LONGEST:
        return None
    trace = float(torch.as_tensor(tell()).trace())
    return expected_variance(plans, lambda n: widen(n, trace))


def expected_variance(plans: Sequence[Plan], widen: Callable[[int], tuple[float, float]]) -> list[float]:
    """E[tr(covariance of the model)] of generations 0, 1, ..., in units of the trace of the true covariance.

    `plans[k]` is what generation k is fitted to. A model fitted to n rows has their mean, and `factor` x their
    covariance (the biased one, 1/n) + `added`, with `factor, added = widen(n)`: (1, 0) for a Gaussian by maximum
    likelihood.

    Let a block be rows that are always used together; b of them are drawn from a source of mean m and expected
    variance v. Given m, the block's mean is m + e with E|e|^2 = v / b, and its own expected variance is (1 - 1/b) v.
    Each e has mean 0 given all that was drawn before it, so no two are correlated, and every mean is a sum of them with
    known coefficients: a model's is the average of its blocks' by size. The expected variance of all rows together is
    that within blocks and that between their means (the law of total variance). A subset of m rows out of n adds
    another such e, of size u (1/m - 1/n), with u the unbiased variance of the n rows, and leaves (1 - 1/m) u.
    Only expectations of squares are taken, so no more is asked of any distribution than a finite variance.

    The closed forms are special cases: replacing gives (1 - 1/N)^t after t fits (Shumailov et al. 2024), accumulating
    the product of 1 - 1/(N i^2) over i <= t (Kazdan et al. 2024).
    """
    blocks = _blocks(plans)
    units = {block: i for i, block in enumerate(blocks)}  # the e of each block, then one a generation for its subset
    of_generation: dict[int, list[Block]] = {}
    for block in blocks:
        of_generation.setdefault(block[0], []).append(block)
    squares = np.zeros(len(blocks) + len(plans))  # E|e|^2
    means = {REAL: np.zeros_like(squares)}
    variances = {REAL: 1.0}
    for k, plan in enumerate(plans):
        used = [
            block
            for source in plan.sources
            for block in of_generation[source.generation]
            if source.first <= block[1] < source.first + source.rows
        ]
        sizes = np.array([blocks[block] for block in used], dtype=float)
        within = np.array([variances[block[0]] for block in used])
        centres = np.stack([means[block[0]] for block in used])
        for centre, block, size, variance in zip(centres, used, sizes, within, strict=True):
            centre[units[block]] = 1.0
            squares[units[block]] = variance / size
        n = int(sizes.sum())
        shares = sizes / n
        mean = shares @ centres
        variance = float(shares @ ((1 - 1 / sizes) * within + (centres - mean) ** 2 @ squares))
        if plan.rows < n:
            unbiased = variance * n / (n - 1)
            squares[len(blocks) + k] = unbiased * (1 / plan.rows - 1 / n)
            mean[len(blocks) + k] = 1.0
            n, variance = plan.rows, unbiased * (1 - 1 / plan.rows)
        factor, added = widen(n)
        means[k], variances[k] = mean, factor * variance + added
    return [variances[k] for k in range(len(plans))]


def _blocks(plans: Sequence[Plan]) -> dict[Block, int]:
    """All blocks with their numbers of rows: what the sources' ends cut each generation's rows into."""
    ends: dict[int, set[int]] = {}
    for plan in plans:
        for source in plan.sources:
            ends.setdefault(source.generation, set()).update((source.first, source.first + source.rows))
    return {(g, a): b - a for g, cuts in ends.items() for a, b in pairwise(sorted(cuts))}
