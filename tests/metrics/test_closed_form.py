"""Closed forms for Gaussians and regression, against Monte Carlo, other formulas and special cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.families.gaussian import Gaussian, GaussianModel
from collapse_sim.families.linear import LinearModel, LinearRegression
from collapse_sim.families.vae import VAE
from collapse_sim.metrics.closed_form import W2, ExcessTestError, MeanError, VarianceRatio, gaussian_w2

POINTS = Info("points", {"x": ((3,), "float64")}, 10, 10, 10)
REGRESSION = Info("regression", {"x": ((3,), "float64"), "y": ((), "float64")}, 10, 10, 10)


class Truth:
    """Data that knows its parameters."""

    def __init__(self, **known: Tensor) -> None:
        for name, value in known.items():
            setattr(self, f"true_{name}", lambda value=value: value)


def covariances(count: int, d: int, seed: int) -> Tensor:
    factor = torch.randn(count, d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.mT


def means(count: int, d: int, seed: int) -> Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def scored(evaluation):
    def run(metric, model, truth):
        seen = evaluation({"model": model}, data=truth, stacked=True)
        value = metric.score(seen)
        assert value.dtype == torch.float64
        assert seen.asked == set(metric.needs)
        return value

    return run


def test_variance_ratio_and_mean_error(scored):
    model = GaussianModel(means(4, 3, 1), covariances(4, 3, 2))
    truth = Truth(mean=means(1, 3, 3)[0], covariance=covariances(1, 3, 4)[0])
    ratios, errors = scored(VarianceRatio(), model, truth), scored(MeanError(), model, truth)
    for s in range(4):
        assert float(ratios[s]) == pytest.approx(np.trace(model.covariance[s]) / np.trace(truth.true_covariance()))
        assert float(errors[s]) == pytest.approx(np.linalg.norm(model.mean[s] - truth.true_mean()))


def test_w2_in_one_dimension(scored):
    model = GaussianModel(torch.tensor([[0.0], [3.0], [1.0]]), torch.tensor([[[4.0]], [[0.0]], [[9.0]]]))
    truth = Truth(mean=torch.tensor([1.0]), covariance=torch.tensor([[9.0]]))
    expected = torch.tensor([2**0.5, (4 + 9) ** 0.5, 0], dtype=torch.float64)  # sqrt((m - m')^2 + (s - s')^2)
    torch.testing.assert_close(scored(W2(), model, truth), expected, rtol=1e-12, atol=1e-7)


def test_w2_against_the_matrix_square_root_of_scipy():
    mean, covariance, true_mean, true_covariance = (
        means(5, 4, 1),
        covariances(5, 4, 2),
        means(1, 4, 3)[0],
        covariances(1, 4, 4)[0],
    )
    found = gaussian_w2(mean, covariance, true_mean, true_covariance)
    for s in range(5):
        cross = scipy.linalg.sqrtm(covariance[s].numpy() @ true_covariance.numpy()).real
        squared = ((mean[s] - true_mean) ** 2).sum() + np.trace((covariance[s] + true_covariance).numpy() - 2 * cross)
        assert float(found[s]) == pytest.approx(float(squared) ** 0.5, rel=1e-9)


def test_w2_against_optimal_matching_of_samples():
    """Points matched at least total cost: an estimate of the distance that knows nothing of Gaussians."""
    n, generator = 700, np.random.default_rng(1)
    a, b = np.array([[2.0, 0.8], [0.8, 0.5]]), np.array([[0.4, -0.2], [-0.2, 1.5]])
    x = generator.multivariate_normal([3.0, 0.0], a, n)
    y = generator.multivariate_normal([0.0, 1.0], b, n)
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    matched = cost[scipy.optimize.linear_sum_assignment(cost)].mean() ** 0.5
    exact = gaussian_w2(
        torch.tensor([[3.0, 0.0]], dtype=torch.float64), torch.from_numpy(a)[None],
        torch.tensor([0.0, 1.0], dtype=torch.float64), torch.from_numpy(b),
    )  # fmt: skip
    assert matched == pytest.approx(float(exact), rel=0.03)


def test_w2_of_itself_and_of_a_point(scored):
    covariance, mean = covariances(1, 3, 1), means(1, 3, 2)
    truth = Truth(mean=mean[0], covariance=covariance[0])
    for seed in range(20):  # rounding must not make a square root of something negative
        own = covariances(1, 3, seed)
        assert float(gaussian_w2(mean, own, mean[0], own[0])) < 1e-7 * float(own[0].trace()) ** 0.5
    point = scored(W2(), GaussianModel(mean, torch.zeros(1, 3, 3, dtype=torch.float64)), truth)
    assert float(point) == pytest.approx(float(covariance[0].trace()) ** 0.5)


def test_excess_test_error_is_an_expectation(scored):
    weights, truth = means(3, 4, 1), Truth(weights=means(1, 4, 2)[0])
    found = scored(ExcessTestError(), LinearModel(weights, torch.ones(3)), truth)
    x = torch.randn(200_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    errors = (x @ (weights - truth.true_weights()).T).square()
    assert ((errors.mean(0) - found).abs() < 4 * errors.std(0) / len(x) ** 0.5).all()
    assert scored(ExcessTestError(), LinearModel(truth.true_weights()[None], torch.ones(1)), truth).tolist() == [0]


@pytest.mark.parametrize("metric", [VarianceRatio(), MeanError(), W2()])
def test_checks_of_points(metric, scored):
    metric.check(POINTS, Gaussian(), 10)
    with pytest.raises(ValueError, match="VAE models have none"):
        metric.check(POINTS, VAE(), 10)
    with pytest.raises(ValueError, match="needs simulated data, not files"):
        metric.check(dataclasses.replace(POINTS, fingerprint="abc"), Gaussian(), 10)
    with pytest.raises(ValueError, match="Truth has no known true"):
        scored(metric, GaussianModel(means(1, 3, 1), covariances(1, 3, 2)), Truth())


def test_checks_of_regression():
    ExcessTestError().check(REGRESSION, LinearRegression(), 10)
    with pytest.raises(ValueError, match="reads a model's weights, but Gaussian models have none"):
        ExcessTestError().check(POINTS, Gaussian(), 10)
