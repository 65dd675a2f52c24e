"""Kernel density estimates against SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file
from sklearn.neighbors import KernelDensity

from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families import kde
from collapse_sim.families.base import ClosedForm, Conditions, ModelFamily
from collapse_sim.families.kde import KDE, KDEModel, log_density
from collapse_sim.testing import check_row_losses


def info(d=2, rows=40):
    return Info("points", {"x": ((d,), "float64")}, rows, rows, 10)


def draws(seeds, role="solve"):
    return Draws(seeds, role, 0, dtype=torch.float64, stacked=True)


def rows(size=3, n=40, d=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, n, d, dtype=torch.float64, generator=generator)
    return x @ torch.linspace(0.5, 2.0, d, dtype=torch.float64).diag() + 0.3 * x.square().sum(-1, keepdim=True)


def solve(family, x):
    return family.solve(info(x.shape[-1], x.shape[1]), {"x": x}, None, {}, draws(range(len(x))))


def nll(family, model, x):
    inputs = family.corrupt({"x": x}, draws(range(len(x)), "corrupt"))
    check_row_losses(family, model, inputs, 1e-12)
    return family.loss(family.predict(model, inputs), inputs)


def test_it_is_a_family_with_a_closed_form():
    assert isinstance(KDE(), ModelFamily)
    assert isinstance(KDE(), ClosedForm)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_rules_are_scipys(rule, d):
    family, x, held_out = KDE(bandwidth=rule), rows(d=d), rows(d=d, seed=1)
    found = nll(family, solve(family, x), held_out)
    for s in range(3):
        reference = scipy.stats.gaussian_kde(x[s].numpy().T, bw_method=rule)
        assert float(found[s]) == pytest.approx(-reference.logpdf(held_out[s].numpy().T).sum(), rel=1e-10)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_number_is_scikit_learns_bandwidth(d):
    family, x, held_out = KDE(bandwidth=0.4), rows(d=d), rows(d=d, seed=1) + 5.0
    found = nll(family, solve(family, x), held_out)
    for s in range(3):
        reference = KernelDensity(bandwidth=0.4, rtol=1e-10).fit(x[s].numpy())
        assert float(found[s]) == pytest.approx(-reference.score(held_out[s].numpy()), rel=1e-8)


def test_in_pieces_it_is_the_same(monkeypatch):
    points, x = rows(1)[0], rows(1, 500, seed=1)[0]
    kernel = torch.tensor([[0.3, 0.1], [0.1, 0.2]], dtype=torch.float64)
    whole = log_density(points, kernel, x)
    monkeypatch.setattr(kde, "PAIRS", 100)
    assert torch.equal(log_density(points, kernel, x), whole)


def test_moments_of_the_density():
    """Against integrals on a grid."""
    model = solve(KDE(bandwidth=0.5), rows(2, 10, 1))
    grid = torch.linspace(-15, 25, 8001, dtype=torch.float64)
    for s in range(2):
        p = log_density(model.points[s], model.kernel[s], grid[:, None]).exp() * (grid[1] - grid[0])
        mean = (p * grid).sum()
        assert float(p.sum()) == pytest.approx(1, abs=1e-9)
        assert float(model.mean[s]) == pytest.approx(float(mean), abs=1e-9)
        assert float(model.covariance[s]) == pytest.approx(float((p * (grid - mean).square()).sum()), abs=1e-9)


@pytest.mark.parametrize("bandwidth", [0.3, "silverman"])
def test_seeds_of_an_ensemble_get_what_they_get_alone(bandwidth):
    family, x = KDE(bandwidth=bandwidth), rows()
    together = solve(family, x)
    sampled = family.sample(together, Conditions(30, {}), draws(range(3), "sample"))["x"]
    for s in range(3):
        alone = family.solve(info(), {"x": x[s : s + 1]}, None, {}, draws((s,)))
        for name, tensor in together.state_dict().items():
            assert torch.equal(tensor[s : s + 1], alone.state_dict()[name]), name
        assert torch.equal(sampled[s : s + 1], family.sample(alone, Conditions(30, {}), draws((s,), "sample"))["x"])


@pytest.mark.parametrize("n", [1, 40, 700])
def test_a_state_of_any_number_of_points_loads(n):
    fitted = solve(KDE(bandwidth=0.3), rows(2, n))
    model = KDE(bandwidth=0.3).build_ensemble(info(rows=40), 2)
    model.load_state_dict(fitted.state_dict())
    assert torch.equal(model.points, fitted.points)
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({"kernel": fitted.kernel, "mean": fitted.mean, "covariance": fitted.covariance})


@pytest.mark.parametrize("bandwidth", [0.5, "scott"])
def test_samples_follow_the_density(bandwidth):
    family = KDE(bandwidth=bandwidth)
    model = solve(family, rows(2, 15))
    x = family.sample(model, Conditions(20_000, {}), draws((0, 1), "sample"))["x"].numpy()
    for s in range(2):
        for axis in range(2):
            centres, scale = model.points[s, :, axis].numpy(), float(model.kernel[s, axis, axis]) ** 0.5
            test = scipy.stats.ks_1samp(
                x[s, :, axis], lambda v, c=centres, h=scale: scipy.stats.norm.cdf((v[:, None] - c) / h).mean(1)
            )
            assert test.pvalue > 1e-3
        np.testing.assert_allclose(np.cov(x[s].T), model.covariance[s].numpy(), rtol=0.05, atol=0.05)


def test_a_singular_kernel_has_no_finite_loss_and_still_samples():
    x = torch.zeros(1, 4, 2, dtype=torch.float64)
    x[0, :, 0] = torch.arange(4)  # on a line
    family = KDE(bandwidth="scott")
    model = solve(family, x)
    assert nll(family, model, rows(1)).tolist() == [float("inf")]
    sampled = family.sample(model, Conditions(10, {}), draws((0,), "sample"))["x"]
    assert torch.equal(sampled[..., 1], torch.zeros(1, 10, dtype=torch.float64))


def test_checks():
    KDE(bandwidth=0.1).check(info(rows=1))
    with pytest.raises(ValueError, match="scott uses the covariance of the rows, which needs more than 2 rows in"):
        KDE(bandwidth="scott").check(info(rows=2))
    for wrong in (0.0, -1.0, float("inf"), "best"):
        with pytest.raises(ValueError, match="bandwidth"):
            KDE(bandwidth=wrong)


def test_what_accumulating_smooths():
    """Expected characteristic function of all rows: the real one times the product of (t + f)/(t + 1)."""
    h, w, size, n, fits = 0.5, 2.0, 1000, 20, 6
    family, seeds = KDE(bandwidth=h), range(size)
    x = Draws(seeds, "real", 0, dtype=torch.float64, stacked=True).uniform(n, 1)
    for k in range(fits - 1):
        model = family.solve(info(1, x.shape[1]), {"x": x}, None, {}, draws(seeds))
        sampler = Draws(seeds, "sample", k, dtype=torch.float64, stacked=True)
        x = torch.cat([x, family.sample(model, Conditions(n, {}), sampler)["x"]], dim=1)
    found = (1j * w * x[..., 0]).exp().mean(1).numpy()
    f = np.exp(-((h * w) ** 2) / 2)  # the kernel's
    real = (np.exp(1j * w) - 1) / (1j * w)  # of the uniform distribution
    expected = real * np.prod([(t + f) / (t + 1) for t in range(1, fits)])
    for part, value in ((found.real, expected.real), (found.imag, expected.imag)):
        assert abs(part.mean() - value) < 4 * part.std(ddof=1) / size**0.5
    assert abs(expected) < 0.6 * abs(real)


RECIPE = """
name: tiny
data: {use: gaussian, dimensions: 2, rows: 30, held_out_rows: 20}
model: {use: kde, bandwidth: 0.2}
generations: 3
seeds: [0, 1]
arms:
  replace: {data: replace}
  accumulate: {data: accumulate}
metrics: [test_loss, variance_ratio, mean_error]
"""


def test_a_run(sandbox):
    """Through the program: models that grow are loaded, and theory stands beside the figures."""
    sandbox.run(RECIPE)
    sandbox.run(RECIPE.replace("[0, 1]", "[0, 1, 2]"), run="more")  # from two blocks of the store
    results = read_results(sandbox.root / "more")
    for arm in ("replace", "accumulate"):
        assert len(results.scores(arm, "test_loss", 3)) == 3
        assert len(results.theory[arm]["variance_ratio"]) == 4
    models = sandbox.root.glob(".store/objects/*/*/*/model.safetensors")
    assert {load_file(model)["points"].shape[1] for model in models} == {30, 60, 90, 120}


def test_a_teacher_is_refused(sandbox):
    taught = "distill: {data: replace, teacher: {generation: 0, weights: {output: 1.0}}}"
    with pytest.raises(RecipeError, match="'kde' has no distillation terms"):
        sandbox.run(RECIPE.replace("accumulate: {data: accumulate}", taught))


def test_model_is_what_the_contract_says():
    model = KDE().build(info(3, 7))
    assert isinstance(model, KDEModel)
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == {
        "points": (1, 7, 3), "kernel": (1, 3, 3), "mean": (1, 3), "covariance": (1, 3, 3),
    }  # fmt: skip


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_weighted_rows_are_scipys(rule):
    """Density under a rule, with the effective number of rows; and the share of each point among samples."""
    x, held_out = rows(), rows(seed=1)
    v = torch.rand(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = KDE(bandwidth=rule).solve_weighted(info(), {"x": x}, v / v.mean(1, keepdim=True), None, {}, draws(range(3)))
    loss = nll(KDE(bandwidth=rule), model, held_out)
    for s in range(3):
        reference = scipy.stats.gaussian_kde(x[s].numpy().T, bw_method=rule, weights=v[s].numpy())
        assert float(loss[s]) == pytest.approx(-reference.logpdf(held_out[s].numpy().T).sum(), rel=1e-10)
    again = KDE(bandwidth=rule).build_ensemble(info(), 3)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.weights, v / v.sum(1, keepdim=True))


def test_samples_of_weighted_rows():
    """Two points, far apart, of which one has three quarters of the weight."""
    x = torch.tensor([[[-9.0, 0.0], [9.0, 0.0]]], dtype=torch.float64)
    family = KDE(bandwidth=0.5)
    model = family.solve_weighted(info(), {"x": x}, torch.tensor([[0.5, 1.5]]).double(), None, {}, draws((0,)))
    samples = family.sample(model, Conditions(4000, {}), draws((0,), "sample"))["x"]
    share = float((samples[0, :, 0] > 0).double().mean())
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5
    assert float(model.mean[0, 0]) == pytest.approx(4.5)


def test_equal_weights_are_none():
    """Up to rounding, for a rule and for a fixed bandwidth."""
    x = rows()
    for family in (KDE(), KDE(bandwidth=0.4)):
        equal = family.solve_weighted(info(), {"x": x}, torch.ones(3, 40).double(), None, {}, draws(range(3)))
        torch.testing.assert_close(nll(family, equal, x), nll(family, solve(family, x), x))
