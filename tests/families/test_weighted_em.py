"""Weighted EM against scikit-learn's own fit to repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.gmm import GMM
from collapse_sim.families.weighted_em import WeightedMixture
from tests.families.test_gmm import POINTS, draws, two_clusters

SETTINGS = {"tol": 1e-10, "max_iter": 1000, "random_state": 0}


@pytest.mark.parametrize("least", [0, 1])
def test_whole_weights_are_repeated_rows(least):
    """Two clusters far apart, so that both fits find the same optimum; rows of weight 0 count for nothing."""
    x = two_clusters(1, 200, apart=8.0)[0].numpy()
    times = np.random.RandomState(1).randint(least, 4, size=len(x))
    own = WeightedMixture(2, **SETTINGS)
    own.row_weights = times / times.mean()
    own.fit(x)
    reference = GaussianMixture(2, **SETTINGS).fit(np.repeat(x, times, axis=0))
    order, other = own.means_[:, 0].argsort(), reference.means_[:, 0].argsort()
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(own, name)[order], getattr(reference, name)[other], rtol=1e-5, atol=1e-7)
    assert own.lower_bound_ == pytest.approx(reference.lower_bound_, rel=1e-8)


def test_the_family_with_equal_weights_is_the_plain_one():
    x = two_clusters(2, 100)
    plain = GMM().solve(POINTS, {"x": x}, None, {}, draws(range(2)))
    weighted = GMM().solve_weighted(POINTS, {"x": x}, torch.ones(2, 100).double(), None, {}, draws(range(2)))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(weighted.state_dict()[name], tensor)


@pytest.mark.parametrize("taught", [False, True])
def test_one_component_is_the_weighted_gaussian(taught):
    """Its teacher's rows are drawn, so their moments agree up to their number."""
    x = two_clusters(2, 100)
    v = torch.rand(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v /= v.mean(1, keepdim=True)
    family, weights = GMM(components=1), {"output": 200.0} if taught else {}
    own = family.solve(POINTS, {"x": x}, None, {}, draws(range(2))) if taught else None
    exact = Gaussian().solve(POINTS, {"x": x}, None, {}, draws(range(2))) if taught else None
    gmm = family.solve_weighted(POINTS, {"x": x}, v, own, weights, draws(range(2)))
    gaussian = Gaussian().solve_weighted(POINTS, {"x": x}, v, exact, weights, draws(range(2)))
    torch.testing.assert_close(gmm.mean, gaussian.mean, rtol=0, atol=0.1 if taught else 1e-9)
    torch.testing.assert_close(gmm.covariance, gaussian.covariance, rtol=0, atol=0.2 if taught else 1e-5)
