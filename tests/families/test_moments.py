"""Expected variances against closed forms written by hand, and against plain NumPy chains of uniform rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from collapse_sim.data.sources import RowCounts, generation_zero
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.data.toys.linear_data import LinearData
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.gmm import GMM
from collapse_sim.families.kde import KDE
from collapse_sim.families.moments import expected_variance
from collapse_sim.plan.settings import Arm, Teacher
from collapse_sim.plan.strategies import Accumulate, AccumulateSubsample, Fresh, Mix, Replace
from tests.chains import chain_of

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
        parts = []
        for s in plan.sources:
            of = real if s.generation < 0 else generated[s.generation]
            part = of[:, s.first : s.first + (s.rows if s.among is None else s.among)]
            parts.append(part if s.among is None else rng.permuted(part, axis=1)[:, : s.rows])
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
     Mix(), Fresh(share=0.25), Mix(real=0.25, synthetic=0.5, redraw=True), Fresh(share=0.25, redraw=True)],
    ids=["replace", "accumulate", "subsample", "subsample 5", "mix", "mix all", "fresh", "mix anew", "fresh anew"],
)  # fmt: skip
@pytest.mark.parametrize(("factor", "added"), [(1.0, 0.0), (1.0, 0.1), (1.2, 0.0)])
def test_curves_against_plain_chains(strategy, factor, added):
    found = chains(strategy, factor, added)
    expected = np.array(expected_variance(plans(strategy), lambda n: (factor, added)))
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - expected) < 4 * error).all()


UNEQUAL = RowCounts(N, 18, 3 * N)


def some_of(x, rows, rng):
    """So many of the rows (repeats, n, d), other ones for each repeat."""
    pick = rng.permuted(np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1)[:, :rows]
    return np.take_along_axis(x, pick[..., None], axis=1)


@pytest.mark.parametrize("counts", [COUNTS, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize(
    ("strategy", "teacher"),
    [(AccumulateSubsample(), None), (AccumulateSubsample(budget=7), None), (Mix(real=0.5), None), (Mix(), None),
     (Mix(real=0.25, synthetic=0.75, redraw=True), None), (Fresh(share=0.25), None), (Accumulate(), None),
     (Replace(), 0), (Replace(), "previous"), (Accumulate(), 0), (AccumulateSubsample(), "previous"),
     (Mix(real=0.5, synthetic=0.5, redraw=True), 0)],
    ids=["subsample", "subsample 7", "mix half", "mix all", "mix anew", "fresh", "accumulate", "replace taught",
         "replace by previous", "accumulate taught", "subsample by previous", "mix anew taught"],
)  # fmt: skip
def test_gaussian_theory_against_chains_of_gaussians(strategy, teacher, counts):
    """Maximum likelihood in two dimensions, written out: a taught model has the moments of the mixture of rows and
    teacher."""
    rng, repeats, d, w, scale = np.random.default_rng(1), 4000, 2, 0.6, 3.0
    taught = teacher is not None
    arm = Arm("a", strategy, Teacher(generation=teacher, weights={"output": w}) if taught else None)
    data = GaussianPoints(dimensions=d, scale=scale)
    expected = Gaussian().theory("variance_ratio", chain_of(arm, counts, GENERATIONS), data, data.inspect(None))
    real = scale * rng.normal(size=(repeats, counts.pool, d))
    generated, models, found = [], [], []
    for k, plan in enumerate(plans(strategy, counts)):
        parts = []
        for s in plan.sources:
            of = real if s.generation < 0 else generated[s.generation]
            part = of[:, s.first : s.first + (s.rows if s.among is None else s.among)]
            parts.append(part if s.among is None else some_of(part, s.rows, rng))
        x = np.concatenate(parts, axis=1)
        if plan.budget is not None:
            x = some_of(x, plan.rows, rng)
        mean = x.mean(1)
        cov = np.einsum("rni,rnj->rij", x - mean[:, None], x - mean[:, None]) / x.shape[1]
        if k and taught:
            other, spread = models[0 if teacher == 0 else k - 1]
            apart = mean - other
            cov = (cov + w * spread) / (1 + w) + w / (1 + w) ** 2 * apart[:, :, None] * apart[:, None]
            mean = (mean + w * other) / (1 + w)
        models.append((mean, cov))
        found.append(np.trace(cov, axis1=1, axis2=2) / (d * scale**2))
        root = np.linalg.cholesky(cov)
        noise = rng.normal(size=(repeats, counts.samples, d))
        generated.append(mean[:, None] + noise @ root.transpose(0, 2, 1))
    found = np.array(found)
    error = found.std(axis=1, ddof=1) / math.sqrt(repeats)
    assert (np.abs(found.mean(axis=1) - expected) < 4 * error).all()
    assert (error < 0.02).all()


def test_gaussian_theory_is_the_closed_forms_that_are_known():
    """Shumailov et al. 2024, Kazdan et al. 2024, and the recursion of a chain that generation 0 teaches."""
    data, counts = GaussianPoints(dimensions=1), RowCounts(10, 10, 10)
    info, n = data.inspect(None), 10

    def theory(strategy, teacher=None, counts=counts):
        return Gaussian().theory("variance_ratio", chain_of(Arm("a", strategy, teacher), counts, 99), data, info)

    assert theory(Replace()) == pytest.approx([0.9**t for t in range(1, 101)])
    product = [math.prod(1 - 1 / (10 * i * i) for i in range(1, t + 1)) for t in range(1, 101)]
    assert theory(Accumulate()) == pytest.approx(product)
    assert expected_variance(plans(Accumulate(), counts, 99), keep) == pytest.approx(product)
    a, v, g = 1 / 1.5, 0.9, 0.0
    taught = [v]
    for _ in range(99):
        apart = g + v / n
        v, g = a * (1 - 1 / n) * v + (1 - a) * 0.9 + a * (1 - a) * apart, a * a * apart
        taught.append(v)
    assert theory(Replace(), Teacher(generation=0, weights={"output": 0.5})) == pytest.approx(taught)
    # samples of another number: (1 - 1/10) of generation 0, then a factor 1 - 1/20 a fit
    assert theory(Replace(), counts=RowCounts(10, 20, 10)) == pytest.approx([0.9 * 0.95**k for k in range(100)])
    assert theory(Mix(real=1.0, synthetic=0.0)) == pytest.approx([0.9] * 100)
    assert Gaussian().theory("mean_error", chain_of(Arm("a", Replace()), counts, 3), data, info) is None


def test_kde_with_a_fixed_bandwidth_by_hand():
    """The recursions of KDE.theory: N = 100, h = 0.3, d = 2, data of variance 4 in each dimension."""
    n, r, counts = 100, 0.3**2 / 4, RowCounts(100, 100, 100)
    data = GaussianPoints(dimensions=2, scale=2.0)

    def theory(strategy):
        info = data.inspect(None)
        return KDE(bandwidth=0.3).theory("variance_ratio", chain_of(Arm("a", strategy), counts, 40), data, info)

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
    curve = KDE(bandwidth=rule).theory(
        "variance_ratio", chain_of(Arm("a", Replace()), counts, 5), data, data.inspect(None)
    )
    # unbiased covariance x f^2 on top of the biased one, whose expectation is 0.99 v
    assert curve == pytest.approx([(0.99 + f * f) ** (k + 1) for k in range(6)])


def test_gmm_has_the_curve_of_a_gaussian_and_its_regularisation():
    data, counts = GaussianPoints(dimensions=2, scale=3.0), RowCounts(100, 100, 100)
    info = data.inspect(None)
    curve = GMM(reg=1e-9).theory("variance_ratio", chain_of(Arm("a", Replace()), counts, 5), data, info)
    assert curve == pytest.approx([0.99 ** (k + 1) for k in range(6)], abs=1e-8)
    raised = GMM(reg=0.9).theory("variance_ratio", chain_of(Arm("a", Replace()), counts, 1), data, info)
    assert raised == pytest.approx([0.99 + 0.1, 0.99 * (0.99 + 0.1) + 0.1])


def test_no_curve_where_none_is_known():
    data, counts = GaussianPoints(), RowCounts(100, 100, 100)
    info, teacher = data.inspect(None), Teacher(generation=0, weights={"output": 1.0})
    arm = Arm("a", Replace())
    chain = chain_of(arm, counts, 2)
    assert GMM().theory("mean_error", chain, data, info) is None
    assert GMM().theory("variance_ratio", chain_of(Arm("a", Replace(), teacher), counts, 2), data, info) is None
    assert KDE().theory("variance_ratio", chain, LinearData(), info) is None  # it tells no covariance
