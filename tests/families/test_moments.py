"""Expected variances against closed forms written by hand, and against plain NumPy chains of uniform rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from collapse_sim.data.gaussian import GaussianPoints
from collapse_sim.data.linear import LinearData
from collapse_sim.families.gmm import GMM
from collapse_sim.families.kde import KDE
from collapse_sim.families.moments import expected_variance
from collapse_sim.recipe.schema import Arm, Teacher
from collapse_sim.strategies import (
    Accumulate,
    AccumulateSubsample,
    Fresh,
    Mix,
    Replace,
    RowCounts,
    generation_zero,
)

N = 12
COUNTS = RowCounts(N, N, 3 * N)
GENERATIONS = 6


def plans(strategy, counts=COUNTS, generations=GENERATIONS):
    return [generation_zero(counts), *(strategy.plan(k, counts) for k in range(1, generations + 1))]


def keep(n):
    return 1.0, 0.0


def test_curves_of_a_gaussian():
    """Shumailov et al. 2024 and Kazdan et al. 2024, N = 100."""
    counts = RowCounts(100, 100, 100)
    assert expected_variance(plans(Replace(), counts, 50), keep) == pytest.approx([0.99 ** (k + 1) for k in range(51)])
    assert expected_variance(plans(Accumulate(), counts, 50), keep) == pytest.approx(
        [math.prod(1 - 1 / (100 * i * i) for i in range(1, k + 2)) for k in range(51)]
    )


def chains(strategy, factor, added, seed=0, repeats=20_000):
    """Variances (repeats, generations + 1) of density estimates that add noise to uniform rows, one at a time in time.

    The model of a generation is its rows, each with normal noise of variance (factor - 1) x theirs + added.
    """
    rng = np.random.default_rng(seed)
    width = math.sqrt(12)  # variance 1
    real = rng.uniform(0, width, (repeats, COUNTS.pool))
    generated, variances = [], []
    for plan in plans(strategy):
        parts = [
            (real if s.generation < 0 else generated[s.generation])[:, s.first : s.first + s.rows] for s in plan.sources
        ]
        rows = np.concatenate(parts, axis=1)
        if plan.budget is not None:
            rows = rng.permuted(rows, axis=1)[:, : plan.rows]
        kernel = (factor - 1) * rows.var(axis=1) + added
        variances.append(rows.var(axis=1) + kernel)
        pick = rng.integers(rows.shape[1], size=(repeats, COUNTS.samples))
        noise = rng.normal(size=pick.shape) * np.sqrt(kernel)[:, None]
        generated.append(np.take_along_axis(rows, pick, axis=1) + noise)
    return np.stack(variances, axis=1)


@pytest.mark.parametrize(
    "strategy",
    [Replace(), Accumulate(), AccumulateSubsample(), AccumulateSubsample(budget=5), Mix(real=0.25, synthetic=0.5),
     Mix(), Fresh(share=0.25)],
    ids=["replace", "accumulate", "subsample", "subsample 5", "mix", "mix all", "fresh"],
)  # fmt: skip
@pytest.mark.parametrize(("factor", "added"), [(1.0, 0.0), (1.0, 0.1), (1.2, 0.0)])
def test_curves_against_plain_chains(strategy, factor, added):
    found = chains(strategy, factor, added)
    expected = np.array(expected_variance(plans(strategy), lambda n: (factor, added)))
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - expected) < 4 * error).all()


def test_kde_with_a_fixed_bandwidth_by_hand():
    """The recursions of KDE.theory: N = 100, h = 0.3, d = 2, data of variance 4 in each dimension."""
    n, r, counts = 100, 0.3**2 / 4, RowCounts(100, 100, 100)
    data = GaussianPoints(dimensions=2, scale=2.0)

    def theory(strategy):
        info = data.inspect(None)
        return KDE(bandwidth=0.3).theory("variance_ratio", Arm("a", strategy), counts, data, info, 40)

    replace = [1 - 1 / n + r]
    for _ in range(40):
        replace.append((1 - 1 / n) * replace[-1] + r)
    assert theory(Replace()) == pytest.approx(replace)
    s = 1 - 1 / n
    accumulate = [s + r]
    for t in range(2, 42):
        s = (1 - 1 / (n * t * t)) * s + r / t * (1 - 1 / (n * t))
        accumulate.append(s + r)
    assert theory(Accumulate()) == pytest.approx(accumulate)


@pytest.mark.parametrize(("rule", "f"), [("scott", 100 ** (-1 / 5)), ("silverman", (100 * 3 / 4) ** (-1 / 5))])
def test_kde_with_a_rule_grows_geometrically_when_it_replaces(rule, f):
    data, counts = GaussianPoints(dimensions=1), RowCounts(100, 100, 100)
    curve = KDE(bandwidth=rule).theory("variance_ratio", Arm("a", Replace()), counts, data, data.inspect(None), 5)
    # unbiased covariance x f^2 on top of the biased one, whose expectation is 0.99 v
    assert curve == pytest.approx([(0.99 + f * f) ** (k + 1) for k in range(6)])


def test_gmm_has_the_curve_of_a_gaussian_and_its_regularisation():
    data, counts = GaussianPoints(dimensions=2, scale=3.0), RowCounts(100, 100, 100)
    info = data.inspect(None)
    curve = GMM(reg=1e-9).theory("variance_ratio", Arm("a", Replace()), counts, data, info, 5)
    assert curve == pytest.approx([0.99 ** (k + 1) for k in range(6)], abs=1e-8)
    raised = GMM(reg=0.9).theory("variance_ratio", Arm("a", Replace()), counts, data, info, 1)
    assert raised == pytest.approx([0.99 + 0.1, 0.99 * (0.99 + 0.1) + 0.1])


def test_no_curve_where_none_is_known():
    data, counts = GaussianPoints(), RowCounts(100, 100, 100)
    info, teacher = data.inspect(None), Teacher(generation=0, weights={"output": 1.0})
    arm = Arm("a", Replace())
    assert GMM().theory("mean_error", arm, counts, data, info, 2) is None
    assert GMM().theory("variance_ratio", Arm("a", Replace(), teacher), counts, data, info, 2) is None
    assert KDE().theory("variance_ratio", arm, counts, LinearData(), info, 2) is None  # it tells no covariance
