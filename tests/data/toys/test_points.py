"""Points of a known density: rows and densities of the same distribution, by histograms, integrals and closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.spatial
import scipy.stats
import torch
from pydantic import ValidationError
from torch import Tensor

from collapse_sim.data.base import Data
from collapse_sim.data.toys.curves import Circles, SwissRoll, TwoMoons
from collapse_sim.data.toys.mixtures import EightGaussians, GaussianMixture
from collapse_sim.data.toys.points import SimulatedPoints
from tests.data.making import draws

from .test_mixtures import LINE, MIXED, SPACE

PLANE = [EightGaussians(scale=0.3), MIXED, TwoMoons(), Circles(noise=0.08), SwissRoll()]
EVERY = [*PLANE, LINE, SPACE]


def name_of(data: object) -> str:
    return f"{type(data).__name__}{data.inspect(Path()).shape('x')}" if isinstance(data, SimulatedPoints) else ""


def rows_of(data: SimulatedPoints, rows: int) -> Tensor:
    return data.simulate(rows, draws(0))["x"]


@pytest.mark.parametrize("data", EVERY, ids=name_of)
def test_first_rows_do_not_depend_on_how_many_are_drawn(data: Any) -> None:
    whole = rows_of(data, 1100)
    for rows in (1, 7, 255, 256, 257, 1000):
        assert torch.equal(rows_of(data, rows), whole[:rows]), rows


@pytest.mark.parametrize("data", EVERY, ids=name_of)
@pytest.mark.parametrize("rows", [1, 300])
def test_stacked_slices_equal_single_seeds(data: Any, rows: int) -> None:
    stacked = data.simulate(rows, draws(3, 1, 4, stacked=True))["x"]
    for slot, seed in enumerate((3, 1, 4)):
        assert torch.equal(stacked[slot], data.simulate(rows, draws(seed))["x"])
    assert not torch.equal(stacked[0], stacked[1])


@pytest.mark.parametrize("data", EVERY, ids=name_of)
def test_columns_are_what_inspect_promises(data: Any) -> None:
    data = data.model_copy(update={"rows": 50, "fresh_rows": 30, "held_out_rows": 20})
    info = data.inspect(Path("/nowhere"))
    assert data.seeded
    assert (info.kind, info.rows, info.pool, info.held_out, info.fingerprint) == ("points", 50, 80, 20, "")
    rows = data.simulate(info.pool, draws(0))
    assert set(rows) == {"x"}
    assert rows["x"].shape == (80, *info.shape("x"))
    assert rows["x"].dtype == torch.float64
    assert all(callable(getattr(data, name)) for name in info.known_truths)
    assert {"log_density", "true_covariance"} <= set(info.known_truths)
    assert isinstance(data, Data)


@pytest.mark.parametrize("data", PLANE, ids=name_of)
def test_density_integrates_to_one(data: Any) -> None:
    """By Simpson's rule on a grid, which knows nothing of how the density is computed."""
    side = np.linspace(-5, 6, 331)
    grid = torch.from_numpy(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
    values = data.log_density(grid).exp().numpy().reshape(331, 331)
    total = scipy.integrate.simpson(scipy.integrate.simpson(values, x=side), x=side)
    assert total == pytest.approx(1, abs=2e-5)  # SwissRoll and MIXED reach the border at 5 standard deviations


@pytest.mark.parametrize("data", PLANE, ids=name_of)
def test_rows_follow_the_density(data: Any) -> None:
    """Chi-squared of counts in cells against the density's integral over each cell."""
    x = rows_of(data, 20_000).numpy()
    low, high = x.min(0) - 0.1, x.max(0) + 0.1
    cells, inner = 24, 12
    edges = [np.linspace(low[i], high[i], cells + 1) for i in range(2)]
    fine = [np.linspace(low[i], high[i], cells * inner + 1) for i in range(2)]
    middles = torch.from_numpy(np.stack(np.meshgrid(*((f[1:] + f[:-1]) / 2 for f in fine), indexing="ij"), -1))
    values = data.log_density(middles.reshape(-1, 2)).exp().numpy().reshape(cells, inner, cells, inner)
    area = np.prod([f[1] - f[0] for f in fine])
    expected = 20_000 * area * values.sum((1, 3))
    counts, *_ = np.histogram2d(x[:, 0], x[:, 1], edges)
    many = expected > 10
    observed, theory = [*counts[many], counts[~many].sum()], [*expected[many], 20_000 - expected[many].sum()]
    chi_squared = sum((o - e) ** 2 / e for o, e in zip(observed, theory, strict=True))
    assert scipy.stats.chi2.sf(chi_squared, len(theory) - 1) > 1e-4


@pytest.mark.parametrize("data", EVERY, ids=name_of)
def test_moments_are_the_rows_own(data: Any) -> None:
    x = rows_of(data, 100_000)
    mean, covariance = data.true_mean(), data.true_covariance()
    apart = x - x.mean(0)
    products = apart[:, :, None] * apart[:, None, :]
    assert ((x.mean(0) - mean).abs() < 5 * x.std(0) / len(x) ** 0.5).all()
    assert ((products.mean(0) - covariance).abs() < 5 * products.std(0) / len(x) ** 0.5).all()


def test_mixture_is_that_of_scipy() -> None:
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    parts = [
        weight * scipy.stats.multivariate_normal(mean, scale**2 * np.eye(2)).pdf(x.numpy())
        for mean, scale, weight in zip(MIXED.means, (0.3, 1.0, 0.5), (1 / 8, 3 / 8, 1 / 2), strict=True)
    ]
    np.testing.assert_allclose(MIXED.log_density(x).exp().numpy(), sum(parts), rtol=1e-12)
    # Where the density is 0 in float64 its logarithm is still a number: 1/2 |x/s|^2 away.
    assert float(MIXED.log_density(torch.tensor([[1e4, 0.0]]))) == pytest.approx(-0.5 * 1e8, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (GaussianMixture, {"means": [[0, 0], [1, 1, 1]]}, r"centres of \[2, 3\] numbers: give every centre the same"),
        (GaussianMixture, {"means": [[], []]}, "give every centre the same number, d"),
        (GaussianMixture, {"means": []}, "at least 1 item"),
        (GaussianMixture, {"scales": [1, 1, 1]}, "`scales` has 3 entries, but there are 2 `means`"),
        (GaussianMixture, {"weights": [1]}, "`weights` has 1 entries, but there are 2 `means`"),
        (GaussianMixture, {"weights": [0, 1]}, "greater than 0"),
        (EightGaussians, {"scale": 0}, "greater than 0"),
        (EightGaussians, {"radius": float("inf")}, "finite"),
        (TwoMoons, {"noise": 0}, "greater than or equal to 0.001"),
        (Circles, {"factor": 1}, "less than 1"),
        (SwissRoll, {"rows": 0}, "greater than 0"),
    ],
)
def test_bad_settings(kind: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**settings)
