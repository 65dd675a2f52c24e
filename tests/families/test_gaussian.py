"""Gaussians: fit, loss and distillation against torch.distributions, and samples of the model's moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.sources import RowCounts
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.families.base import Conditions
from collapse_sim.families.gaussian import Gaussian, GaussianModel
from collapse_sim.plan.settings import Arm, Teacher
from collapse_sim.plan.strategies import Replace
from collapse_sim.testing import check_closed_form
from tests.chains import chain_of
from tests.families.small_rows import POINTS


def test_gaussian():
    x = torch.randn(3, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 1
    check_closed_form(Gaussian(), POINTS, {"x": x})


def test_gaussian_loss_and_term_against_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 50, 3, dtype=torch.float64, generator=generator)
    family = Gaussian()
    fitted = family.solve(POINTS, {"x": x}, None, {}, None)
    prediction = family.predict(fitted, None)
    inputs = family.corrupt({"x": x}, None)
    normal = torch.distributions.MultivariateNormal(prediction.mean, prediction.covariance)
    expected = -normal.log_prob(x.transpose(0, 1)).sum(0)
    torch.testing.assert_close(family.loss(prediction, inputs), expected)
    torch.testing.assert_close(family.row_losses(prediction, inputs), -normal.log_prob(x.transpose(0, 1)).T)
    other = family.predict(family.build_ensemble(POINTS, 2), None)
    standard = torch.distributions.MultivariateNormal(other.mean, other.covariance)
    cross_entropy = standard.entropy() + torch.distributions.kl_divergence(standard, normal)
    torch.testing.assert_close(family.distillation(prediction, other, inputs)["output"], 50 * cross_entropy)


def test_gaussian_samples_have_the_models_moments():
    from collapse_sim.core.randomness import Draws
    from collapse_sim.families.base import Conditions

    covariance = torch.tensor([[[2.0, 0.6], [0.6, 0.5]]], dtype=torch.float64)
    model = GaussianModel(torch.tensor([[1.0, -2.0]], dtype=torch.float64), covariance)
    draws = Draws((0,), "sample", 0, dtype=torch.float64, stacked=True)
    x = Gaussian().sample(model, Conditions(200_000, {}), draws)["x"][0]
    torch.testing.assert_close(x.mean(0), model.mean[0], atol=0.01, rtol=0)
    torch.testing.assert_close(x.T.cov(), covariance[0], atol=0.02, rtol=0)


def test_singular_covariance_has_infinite_loss():
    x = torch.ones(1, 5, 3, dtype=torch.float64)
    family = Gaussian()
    fitted = family.solve(POINTS, {"x": x}, None, {}, None)
    inputs = family.corrupt({"x": x}, None)
    assert family.loss(family.predict(fitted, inputs), inputs).isinf().all()


def test_a_teacher_is_so_many_more_rows() -> None:
    """A teacher fitted to rows of its own, with the weight of their number: the fit to both together."""
    generator = torch.Generator().manual_seed(3)
    own = torch.randn(2, 30, 3, dtype=torch.float64, generator=generator)
    others = torch.randn(2, 45, 3, dtype=torch.float64, generator=generator) * 2 + 1
    family = Gaussian()
    teacher = family.solve(POINTS, {"x": others}, None, {}, None)
    found = family.solve(POINTS, {"x": own}, teacher, {"output": 45 / 30}, None)
    whole = torch.cat([own, others], dim=1)
    for s in range(2):
        torch.testing.assert_close(found.mean[s], whole[s].mean(0))
        torch.testing.assert_close(found.covariance[s], whole[s].T.cov(correction=0))


def test_samples_of_a_degenerate_model_lie_on_its_line() -> None:
    direction = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    model = GaussianModel(torch.ones(1, 3, dtype=torch.float64), torch.outer(direction, direction)[None])
    draws = Draws((0,), "sample", 0, dtype=torch.float64, stacked=True)
    x = Gaussian().sample(model, Conditions(1000, {}), draws)["x"][0] - 1
    torch.testing.assert_close(torch.outer(x[:, 0], direction), x, atol=1e-6, rtol=0)
    assert float(x[:, 0].std()) == pytest.approx(1.0, rel=0.1)


def test_combined_covariances_that_are_none_are_known_and_projected():
    """The nearest positive semidefinite matrix: that of least distance among many."""
    covariances = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[2.0, 0.5], [0.5, 1.0]], [[0.0, 0.0], [0.0, 1.0]]]).double()
    model = GaussianModel(torch.zeros(3, 2, dtype=torch.float64), covariances)
    assert Gaussian().feasible(model).tolist() == [False, True, False]
    projected = Gaussian().projected(model).covariance
    torch.testing.assert_close(projected[1:], covariances[1:])
    assert float(torch.linalg.eigvalsh(projected[0]).min()) > -1e-12
    roots = torch.randn(20_000, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    others = (roots @ roots.transpose(1, 2) - covariances[0]).square().sum((1, 2))
    assert float((projected[0] - covariances[0]).square().sum()) < float(others.min())


def test_weighted_moments_are_numpys():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 30, 3, dtype=torch.float64, generator=generator)
    v = torch.rand(2, 30, dtype=torch.float64, generator=generator)
    fitted = Gaussian().solve_weighted(POINTS, {"x": x}, v / v.mean(1, keepdim=True), None, {}, None)
    for s in range(2):
        mean = np.average(x[s].numpy(), axis=0, weights=v[s].numpy())
        np.testing.assert_allclose(fitted.mean[s].numpy(), mean)
        covariance = np.cov(x[s].numpy().T, aweights=v[s].numpy(), bias=True)
        np.testing.assert_allclose(fitted.covariance[s].numpy(), covariance, atol=1e-12)


@pytest.mark.parametrize("strength", [0.1, 0.5, 2.0])
def test_a_distilled_chain_levels_off_where_the_docs_say(strength) -> None:
    """docs/theory.md: v = v_0 / (1 + 1 / (N strength (strength + 2)))."""
    rows, last = 50, 400
    info = Info("points", {"x": ((1,), "float64")}, rows, rows, 10)
    arm = Arm("a", Replace(), Teacher(generation=0, weights={"output": strength}))
    chain = chain_of(arm, RowCounts(rows, rows, rows), last)
    curve = Gaussian().theory("variance_ratio", chain, GaussianPoints(), info)
    first = 1 - 1 / rows
    assert curve[0] == pytest.approx(first)
    assert curve[-1] == pytest.approx(first / (1 + 1 / (rows * strength * (strength + 2))), rel=1e-9)
