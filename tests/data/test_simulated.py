"""gaussian and linear: the distributions they claim, and rows that don't depend on how many are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from pydantic import ValidationError

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, conditions_of
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.data.toys.linear_data import LinearData
from collapse_sim.families.linear import LinearRegression

TOYS = [GaussianPoints(), GaussianPoints(dimensions=3, mean=[1, 2, 3], scale=2), LinearData(), LinearData(dimensions=3)]


def draws(*seeds: int, stacked: bool = False) -> Draws:
    return Draws(seeds, "real", 0, dtype=torch.float64, stacked=stacked)


@pytest.mark.parametrize("data", TOYS)
def test_first_rows_do_not_depend_on_how_many_are_drawn(data) -> None:
    whole = data.simulate(1100, draws(0))
    for rows in (1, 7, 16, 100, 255, 256, 257, 1000):
        part = data.simulate(rows, draws(0))
        for name, column in part.items():
            assert torch.equal(column, whole[name][:rows]), (name, rows)


@pytest.mark.parametrize("data", TOYS)
@pytest.mark.parametrize("rows", [1, 40, 300])
def test_stacked_slices_equal_single_seeds(data, rows: int) -> None:
    stacked = data.simulate(rows, draws(3, 1, 4, stacked=True))
    for slot, seed in enumerate((3, 1, 4)):
        for name, column in data.simulate(rows, draws(seed)).items():
            assert torch.equal(stacked[name][slot], column)
    assert not torch.equal(stacked["x"][0], stacked["x"][1])


@pytest.mark.parametrize("data", TOYS)
def test_columns_are_what_inspect_promises(data) -> None:
    info = data.inspect(Path("/nowhere"))
    assert isinstance(data, Data)
    assert data.seeded
    assert info.kind == data.kind
    assert info.fingerprint == ""
    rows = data.simulate(info.pool, draws(0))
    assert set(rows) == set(info.columns)
    for name, (shape, dtype) in info.columns.items():
        assert rows[name].shape == (info.pool, *shape)
        assert str(rows[name].dtype) == f"torch.{dtype}"


@pytest.mark.parametrize("toy", [GaussianPoints, LinearData])
def test_fresh_rows_are_a_reserve(toy) -> None:
    info = toy(rows=50, fresh_rows=30, held_out_rows=20).inspect(Path())
    assert (info.rows, info.pool, info.held_out) == (50, 80, 20)


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


def test_linear_is_the_model_it_says() -> None:
    data = LinearData(dimensions=4, noise=0.5, signal=3.0)
    rows = data.simulate(100_000, draws(0))
    weights = data.true_weights()
    assert weights.norm().item() == pytest.approx(3.0)
    assert len(set(weights.tolist())) == 1
    residual = rows["y"] - rows["x"] @ weights
    # Standard errors: .5 / sqrt(2e5) = .0011 of the residual deviation, 1 / sqrt(1e5) = .0032 of a correlation.
    assert residual.std().item() == pytest.approx(0.5, abs=5 * 0.0011)
    assert residual.mean().abs() < 5 * 0.5 * 0.0032
    assert (torch.cov(rows["x"].T) - torch.eye(4, dtype=torch.float64)).abs().max() < 5 * 0.0032 * 2**0.5
    assert (rows["x"].T @ residual / 1e5).abs().max() < 5 * 0.5 * 0.0032
    assert conditions_of(data, LinearRegression()) == ("x",)
    assert data.inspect(Path()).constants == {"noise": 0.5}


def test_without_noise_y_is_exact() -> None:
    data = LinearData(dimensions=1, noise=0.0, signal=2.0)
    rows = data.simulate(10, draws(0))
    assert torch.equal(rows["y"], 2.0 * rows["x"][:, 0])


@pytest.mark.parametrize(
    ("toy", "settings", "message"),
    [
        (GaussianPoints, {"dimensions": 2, "mean": [1, 2, 3]}, "`mean` has 3 entries, but `dimensions` is 2"),
        (GaussianPoints, {"scale": 0}, "greater than 0"),
        (GaussianPoints, {"mean": float("nan")}, "finite"),
        (GaussianPoints, {"rows": 0}, "greater than 0"),
        (GaussianPoints, {"dimension": 2}, "Extra inputs"),
        (LinearData, {"noise": -1}, "greater than or equal to 0"),
        (LinearData, {"signal": float("inf")}, "finite"),
        (LinearData, {"fresh_rows": -1}, "greater than or equal to 0"),
    ],
)
def test_bad_settings(toy, settings, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        toy(**settings)
