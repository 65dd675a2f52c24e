"""gaussian: the moments and the density that it claims."""

from __future__ import annotations

import numpy as np
import scipy.stats
import torch

from collapse_sim.data.toys.gaussian_points import GaussianPoints
from tests.data.making import draws


def test_gaussian_moments() -> None:
    data = GaussianPoints(dimensions=3, mean=[1.0, -2.0, 0.5], scale=2.0)
    x = data.simulate(100_000, draws(0))["x"]
    # Standard errors: 2 / sqrt(1e5) = .0063 of a mean, 4 sqrt(2) / sqrt(1e5) = .018 of a variance.
    assert (x.mean(0) - data.true_mean()).abs().max() < 5 * 0.0063
    assert (torch.cov(x.T) - data.true_covariance()).abs().max() < 5 * 0.018
    assert torch.equal(data.true_mean(), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    assert torch.equal(data.true_covariance(), 4 * torch.eye(3, dtype=torch.float64))
    assert torch.equal(GaussianPoints(dimensions=2, mean=3).true_mean(), torch.tensor([3.0, 3.0], dtype=torch.float64))


def test_gaussian_density_is_that_of_scipy() -> None:
    data = GaussianPoints(dimensions=3, mean=[1.0, -2.0, 0.5], scale=2.0)
    x = data.simulate(20, draws(0))["x"]
    theirs = scipy.stats.multivariate_normal([1.0, -2.0, 0.5], 4 * np.eye(3)).logpdf(x.numpy())
    np.testing.assert_allclose(data.log_density(x).numpy(), theirs, rtol=1e-12)
