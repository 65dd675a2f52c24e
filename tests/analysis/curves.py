"""Chains whose expected curves are known in closed form, and results made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collapse_sim.analysis.results import Better, Results

Curves = NDArray[np.float64]  # (seeds, generations)


def results_of(
    arms: Mapping[str, Mapping[str, Curves]], better: Mapping[str, Better] | None = None, **extra: Any
) -> Results:
    """Results of [arm][metric] -> (seeds, generations)."""
    metrics: dict[str, Better] = {metric: (better or {}).get(metric) for by in arms.values() for metric in by}
    seeds, generations = next(iter(next(iter(arms.values())).values())).shape
    values = {
        arm: {
            metric: {k: {s: float(curve[s, k]) for s in range(len(curve))} for k in range(curve.shape[1])}
            for metric, curve in by_metric.items()
        }
        for arm, by_metric in arms.items()
    }
    return Results("toy", tuple(arms), tuple(range(seeds)), metrics, generations - 1, next(iter(arms)), values, **extra)


def regression(
    rng: np.random.Generator, seeds: int, last: int, *, accumulate: bool, rows: int = 40, features: int = 10
) -> Curves:
    """Excess test errors of linear regression with the design re-used (Gerstgrasser et al. 2024), fits 1 to last + 1.

    The expected value after n fits is features / (rows - features - 1) times n under replace, and times the sum of
    1 / i^2 if rows are accumulated.
    """
    design = rng.normal(size=(seeds, rows, features))
    root = np.linalg.cholesky(np.linalg.inv(design.transpose(0, 2, 1) @ design))
    error = np.zeros((seeds, features))
    curve = []
    for n in range(1, last + 2):
        step = (root @ rng.normal(size=(seeds, features, 1)))[..., 0]
        error = error + (step / n if accumulate else step)
        curve.append((error**2).sum(1))
    return np.stack(curve, 1)


def gaussian(rng: np.random.Generator, seeds: int, last: int, rows: int) -> Curves:
    """Variance ratios under replace, by maximum likelihood: products of chi2(rows - 1) / rows."""
    return np.asarray(np.cumprod(rng.chisquare(rows - 1, (seeds, last + 1)) / rows, 1))


def noise(rng: np.random.Generator, seeds: int, last: int, scatter: float = 0.05) -> Curves:
    """No change: 1 and noise of its own at every generation."""
    return 1 + scatter * rng.normal(size=(seeds, last + 1))
