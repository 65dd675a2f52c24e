"""Moons, circles and the roll: the curves of scikit-learn, with their exact density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.integrate
import scipy.spatial
import scipy.stats
import sklearn.datasets
import torch

from collapse_sim.data.toys.curves import Circles, SwissRoll, TwoMoons


def test_circles_are_the_closed_form() -> None:
    """The density of a circle of radius R with noise s: exp(-(r^2 + R^2) / 2 s^2) I_0(r R / s^2) / (2 pi s^2)."""
    data = Circles(noise=0.07, factor=0.4)
    r, s = torch.linspace(0, 1.6, 200, dtype=torch.float64), 0.07
    angle = torch.linspace(0, 9, 200, dtype=torch.float64)
    found = data.log_density(torch.stack([r * angle.cos(), r * angle.sin()], 1))
    rings = [torch.exp(-((r - R) ** 2) / (2 * s**2)) * torch.special.i0e(r * R / s**2) for R in (1.0, 0.4)]
    torch.testing.assert_close(found, (sum(rings) / 2 / (2 * math.pi * s**2)).log(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("data", [TwoMoons(), SwissRoll(), TwoMoons(noise=0.01)], ids=["moons", "roll", "thin moons"])
def test_curves_are_integrated_exactly(data: Any) -> None:
    """Against Simpson's rule with a thousand times as many nodes, up to 10 standard deviations away from the curve."""
    clean = data.mixture().means[::37][:12]
    away = torch.randn(len(clean), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    distances = torch.linspace(0, 10, len(clean), dtype=torch.float64)[:, None]
    points = clean + data.noise * distances * away / away.norm(dim=1, keepdim=True)
    u = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    curves = [data.curve(torch.full(u.shape, piece), u) for piece in range(data.pieces)]
    for x, found in zip(points, data.log_density(points).tolist(), strict=True):
        exponents = [-(x - curve).square().sum(1) / (2 * data.noise**2) for curve in curves]
        top = max(float(exponent.max()) for exponent in exponents)
        parts = [scipy.integrate.simpson((exponent - top).exp().numpy(), x=u.numpy()) for exponent in exponents]
        expected = top + math.log(sum(parts) / data.pieces / (2 * math.pi * data.noise**2))
        assert found == pytest.approx(expected, abs=1e-6)


def test_curves_are_those_of_scikit_learn() -> None:
    """Their points, without noise, lie on the curves, end to end."""
    roll = sklearn.datasets.make_swiss_roll(2000, random_state=0)[0][:, [0, 2]] / 5
    for data, theirs in (
        (TwoMoons(), sklearn.datasets.make_moons(2000)[0]),
        (Circles(), sklearn.datasets.make_circles(2000, factor=0.5)[0]),
        (SwissRoll(), roll),
    ):
        ours = data.mixture().means.numpy()
        for a, b in ((ours, theirs), (theirs, ours)):
            assert scipy.spatial.cKDTree(a).query(b)[0].max() < data.noise
