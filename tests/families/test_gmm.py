"""Mixtures of Gaussians against scikit-learn, SciPy, and the closed forms of a single Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.mixture import GaussianMixture

from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import ClosedForm, Conditions, ModelFamily
from collapse_sim.families.gaussian import Gaussian, GaussianModel
from collapse_sim.families.gmm import GMM, Components, GMMModel, log_density
from collapse_sim.testing import check_row_losses

POINTS = Info("points", {"x": ((2,), "float64")}, 300, 300, 100)


def draws(seeds, role="solve"):
    return Draws(seeds, role, 0, dtype=torch.float64, stacked=True)


def two_clusters(size, n=300, apart=4.0, seed=0):
    """(size, n, 2): two round clusters of equal weight, `apart` standard deviations from each other."""
    x = torch.randn(size, n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x[:, ::2, 0] += apart
    return x


def some_model():
    """Three components a seed, two seeds."""
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=generator)
    weights = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]], dtype=torch.float64)
    means = 3 * torch.randn(2, 3, 2, dtype=torch.float64, generator=generator)
    eye = torch.eye(2, dtype=torch.float64)
    return GMMModel(weights, means, root @ root.mT + 0.1 * eye, torch.ones(2, dtype=torch.bool))


def components(model):
    return Components(model.weights, model.means, model.covariances)


def nll(family, model, x):
    inputs = family.corrupt({"x": x}, draws(range(len(x)), "corrupt"))
    check_row_losses(family, model, inputs, 1e-12)
    return family.loss(family.predict(model, inputs), inputs) / inputs.count


def test_it_is_a_family_with_a_closed_form():
    assert isinstance(GMM(), ModelFamily)
    assert isinstance(GMM(), ClosedForm)


def test_density_against_scipy():
    model, x = some_model(), two_clusters(2, 50)
    found = log_density(components(model), x)
    for s in range(2):
        density = sum(
            float(w) * scipy.stats.multivariate_normal(m.numpy(), c.numpy()).pdf(x[s].numpy())
            for w, m, c in zip(model.weights[s], model.means[s], model.covariances[s], strict=True)
        )
        np.testing.assert_allclose(found[s].numpy(), np.log(density), rtol=1e-10)


def test_fit_is_scikit_learns():
    """The optimum of two far clusters does not depend on the start."""
    x, family = two_clusters(3, apart=8.0), GMM(tol=1e-9)
    model = family.solve(POINTS, {"x": x}, None, {}, draws(range(3)))
    assert model.converged.all()
    for s in range(3):
        reference = GaussianMixture(2, tol=1e-9, random_state=0).fit(x[s].numpy())
        assert float(nll(family, model, x)[s]) == pytest.approx(-reference.score(x[s].numpy()), abs=1e-9)
        assert sorted(model.weights[s].tolist()) == pytest.approx(sorted(reference.weights_.tolist()), abs=1e-6)


def test_seeds_of_an_ensemble_get_what_they_get_alone():
    """Models, models with a teacher, and samples, to the last bit; clusters that overlap depend on the start."""
    x, family, teacher = two_clusters(3, apart=1.5), GMM(components=3), some_model()
    teacher = GMMModel(*(torch.cat([t, t[:1]]) for t in (*components(teacher), teacher.converged)))
    for taught in (None, teacher):
        weights = {} if taught is None else {"output": 0.5}
        together = family.solve(POINTS, {"x": x}, taught, weights, draws(range(3)))
        sampled = family.sample(together, Conditions(40, {}), draws(range(3), "sample"))["x"]
        for s in range(3):
            part = slice(s, s + 1)
            one = None
            if taught is not None:
                one = GMMModel(*(t[part] for t in (*components(taught), taught.converged)))
            alone = family.solve(POINTS, {"x": x[part]}, one, weights, draws((s,)))
            for name, tensor in together.state_dict().items():
                assert torch.equal(tensor[part], alone.state_dict()[name]), name
            assert torch.equal(sampled[part], family.sample(alone, Conditions(40, {}), draws((s,), "sample"))["x"])


def test_starts_differ_by_seed_and_repeat():
    x = two_clusters(1, apart=1.0).expand(2, -1, -1)
    models = [GMM(components=4, max_iter=3).solve(POINTS, {"x": x}, None, {}, draws((5, 6))) for _ in range(2)]
    assert torch.equal(models[0].means, models[1].means)
    assert not torch.equal(models[0].means[0], models[0].means[1])


def test_fit_is_a_local_optimum_of_the_likelihood():
    x, family = two_clusters(2, apart=2.5), GMM(tol=1e-12, max_iter=5000, reg=1e-12)
    model = family.solve(POINTS, {"x": x}, None, {}, draws(range(2)))
    least = nll(family, model, x)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        weights = model.weights * (0.01 * torch.randn(2, 2, dtype=torch.float64, generator=generator)).exp()
        means = model.means + 0.01 * torch.randn(2, 2, 2, dtype=torch.float64, generator=generator)
        twist = torch.eye(2) + 0.01 * torch.randn(2, 2, 2, 2, dtype=torch.float64, generator=generator)
        near = GMMModel(
            weights / weights.sum(1, keepdim=True), means, twist @ model.covariances @ twist.mT, model.converged
        )
        assert (nll(family, near, x) > least).all()


@pytest.mark.parametrize("max_iter", [1, 1000])
def test_mixture_has_the_moments_of_its_rows_wherever_em_ends(max_iter):
    x, family = two_clusters(2, apart=1.0), GMM(components=3, max_iter=max_iter, reg=1e-3)
    model = family.solve(POINTS, {"x": x}, None, {}, draws(range(2)))
    assert bool(model.converged.all()) == (max_iter > 1)  # and no warning
    for s in range(2):
        expected = np.cov(x[s].numpy().T, bias=True) + 1e-3 * np.eye(2)
        np.testing.assert_allclose(model.mean[s].numpy(), x[s].mean(0).numpy(), atol=1e-12)
        np.testing.assert_allclose(model.covariance[s].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_teacher_of_one_component_is_the_gaussians_closed_form(weight):
    """n = 40,000, so that the Monte-Carlo error is about 0.01."""
    x = two_clusters(2, 40_000, apart=1.0)
    mean = torch.tensor([[1.0, -2.0], [0.0, 3.0]], dtype=torch.float64)
    covariance = torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[0.3, 0.0], [0.0, 0.4]]], dtype=torch.float64)
    teacher = GMMModel(
        torch.ones(2, 1, dtype=torch.float64), mean[:, None], covariance[:, None], torch.ones(2, dtype=torch.bool)
    )
    found = GMM(components=1).solve(POINTS, {"x": x}, teacher, {"output": weight}, draws(range(2)))
    exact = Gaussian().solve(POINTS, {"x": x}, GaussianModel(mean, covariance), {"output": weight}, draws(range(2)))
    torch.testing.assert_close(found.mean, exact.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(found.covariance, exact.covariance, atol=0.06, rtol=0)
    family, n = GMM(components=1), x.shape[1]
    inputs = family.corrupt({"x": x}, draws(range(2), "corrupt"))
    term = family.distillation(family.predict(found, inputs), family.predict(teacher, inputs), inputs)["output"] / n
    moments = Gaussian().predict(GaussianModel(found.mean, found.covariance), inputs)
    expected = Gaussian().distillation(moments, Gaussian().predict(GaussianModel(mean, covariance), inputs), inputs)
    torch.testing.assert_close(term, expected["output"] / n, atol=0.03, rtol=0)


def test_more_weight_brings_the_student_nearer_to_the_teacher():
    x, family = two_clusters(2), GMM()
    teacher = family.solve(POINTS, {"x": two_clusters(2, seed=9) + 1.0}, None, {}, draws(range(2)))
    apart = []
    for weight in (0.5, 2.0, 20.0):
        student = family.solve(POINTS, {"x": x}, teacher, {"output": weight}, draws(range(2)))
        inputs = family.corrupt({"x": two_clusters(2, 5000)}, draws(range(2), "corrupt"))
        term = family.distillation(family.predict(student, inputs), family.predict(teacher, inputs), inputs)
        apart.append(term["output"])
    assert (apart[0] > apart[1]).all()
    assert (apart[1] > apart[2]).all()


def test_samples_follow_the_mixture():
    model, n = some_model(), 20_000
    x = GMM(components=3).sample(model, Conditions(n, {}), draws((0, 1), "sample"))["x"]
    for s in range(2):
        error = (model.covariance[s].diagonal() / n).sqrt()
        assert ((x[s].mean(0) - model.mean[s]).abs() < 4 * error).all()
        np.testing.assert_allclose(np.cov(x[s].numpy().T), model.covariance[s].numpy(), rtol=0.05, atol=0.1)
        nearest = scipy.stats.ks_1samp(x[s][:, 0].numpy(), lambda v, s=s: _cdf(model, s, v))
        assert nearest.pvalue > 1e-3


def _cdf(model, s, v):
    """Of the first coordinate."""
    return sum(
        float(w) * scipy.stats.norm(float(m[0]), float(c[0, 0]) ** 0.5).cdf(v)
        for w, m, c in zip(model.weights[s], model.means[s], model.covariances[s], strict=True)
    )


def test_too_few_rows():
    with pytest.raises(ValueError, match="gmm with 400 components needs at least 400 rows, the data has 300"):
        GMM(components=400).check(POINTS)
    with pytest.raises(RecipeError, match="needs at least 5 rows, a generation has 4"):
        GMM(components=5).solve(POINTS, {"x": two_clusters(1, 4)}, None, {}, draws((0,)))


def test_rows_that_are_all_the_same():
    """As after a total collapse: no warning, and the mixture is a point of variance reg."""
    x = torch.full((1, 50, 2), 3.0, dtype=torch.float64)
    family = GMM()
    model = family.solve(POINTS, {"x": x}, None, {}, draws((0,)))
    torch.testing.assert_close(model.mean, x[:, 0])
    torch.testing.assert_close(model.covariance, 1e-6 * torch.eye(2, dtype=torch.float64)[None], rtol=1e-6, atol=1e-12)
    assert nll(family, model, x).isfinite().all()


def test_a_covariance_that_rounding_makes_singular():
    line = torch.linspace(0, 1e9, 50, dtype=torch.float64)
    with pytest.raises(
        RecipeError, match="gmm: EM failed: `reg` = 1e-06 is too small for rows of this scale; raise model"
    ):
        GMM().solve(POINTS, {"x": torch.stack([line, line], -1)[None]}, None, {}, draws((0,)))


RECIPE = """
name: tiny
data: {use: gaussian, dimensions: 2, rows: 60, held_out_rows: 50}
model: {use: gmm, components: 2}
generations: 2
seeds: [0, 1]
arms:
  replace: {data: replace}
  accumulate: {data: accumulate}
  distill: {data: replace, teacher: {generation: 0, weights: {output: 0.5}}}
metrics: [test_loss, variance_ratio, mean_error]
"""


def test_a_run(sandbox):
    """Through the program: strategies, a teacher, metrics of points; a seed has the same scores in any company."""
    sandbox.run(RECIPE)
    sandbox.run(RECIPE.replace("[0, 1]", "[1, 2]"), run="more")  # seed 1 from the store
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    other.run(RECIPE.replace("[0, 1]", "[2]"))
    for arm in ("replace", "accumulate", "distill"):
        for metric in ("test_loss", "variance_ratio", "mean_error"):
            more, alone = (
                read_results(run).scores(arm, metric, 2) for run in (sandbox.root / "more", other.root / "run")
            )
            assert more[2] == alone[2]
            assert more[1] == read_results(sandbox.root / "run").scores(arm, metric, 2)[1]
