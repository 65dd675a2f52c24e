"""The shipped toy recipes, whole, through the real loop: means within three standard errors of the closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from collapse_sim.analysis.results import read_results
from collapse_sim.recipe.shipped import path


def curve(sandbox, recipe, metric):
    """{arm: [(mean, standard error) of each generation]}, and the run's own theory."""
    sandbox.run(path(recipe))
    results = read_results(sandbox.root / "run")
    means = {}
    for arm in results.arms:
        scores = [np.array(list(results.scores(arm, metric, k).values())) for k in range(results.generations + 1)]
        means[arm] = [(s.mean(), s.std(ddof=1) / math.sqrt(len(s))) for s in scores]
    return means, results.theory


def assert_close(means, theory):
    assert len(means) == len(theory)
    for k, ((mean, error), expected) in enumerate(zip(means, theory, strict=True)):
        assert abs(mean - expected) < 3 * error, f"generation {k}: {mean:.4f} +- {error:.4f}, theory {expected:.4f}"


@pytest.mark.slow
def test_linear_replace_vs_accumulate(sandbox):
    """arXiv 2404.01413, stated here by hand: d = 10, T = 100, noise 1, 200 seeds."""
    means, own = curve(sandbox, "linear-replace-vs-accumulate", "excess_test_error")
    unit = 10 / (100 - 10 - 1)
    replace = [unit * (k + 1) for k in range(11)]
    accumulate = [unit * sum(1 / i**2 for i in range(1, k + 2)) for k in range(11)]
    assert_close(means["replace"], replace)
    assert_close(means["accumulate"], accumulate)
    assert own["replace"]["excess_test_error"] == pytest.approx(replace)
    assert own["accumulate"]["excess_test_error"] == pytest.approx(accumulate)
    # Distilled from generation 0 with weight 1, a = 1/2: bounded by unit (1 + a^2 / (1 - a^2)) = 4/3 unit.
    distilled = [unit * (1 + sum(0.25**j for j in range(1, k + 1))) for k in range(11)]
    assert own["distill"]["excess_test_error"] == pytest.approx(distilled)
    for arm in ("distill", "accumulate+distill"):
        assert_close(means[arm], own[arm]["excess_test_error"])


@pytest.mark.slow
def test_gaussian_strategies(sandbox):
    """Variance ratios of Shumailov et al. and Kazdan et al.: N = 100, 50 generations, 1,000 seeds."""
    means, own = curve(sandbox, "gaussian-strategies", "variance_ratio")
    replace = [0.99 ** (k + 1) for k in range(51)]
    accumulate = [math.prod(1 - 1 / (100 * i * i) for i in range(1, k + 2)) for k in range(51)]
    assert_close(means["replace"], replace)
    assert_close(means["accumulate"], accumulate)
    assert own["replace"]["variance_ratio"] == pytest.approx(replace)
    assert own["accumulate"]["variance_ratio"] == pytest.approx(accumulate)
    assert own["distill"]["variance_ratio"] == pytest.approx(distilled_by_hand(100, 1.0, 50))
    for arm in ("accumulate-subsample", "distill"):
        assert_close(means[arm], own[arm]["variance_ratio"])


def distilled_by_hand(n, weight, generations):
    """A replaced chain taught by generation 0: a = 1 / (1 + w), v_k = E[variance], g_k = E[(mean_k - mean_0)^2]."""
    a, v0 = 1 / (1 + weight), 1 - 1 / n
    curve, v, g = [v0], v0, 0.0
    for _ in range(generations):
        apart = g + v / n
        v = a * (1 - 1 / n) * v + (1 - a) * v0 + a * (1 - a) * apart
        g = a * a * apart
        curve.append(v)
    return curve
