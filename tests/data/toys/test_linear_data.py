"""linear: the regression that it claims to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from collapse_sim.data.base import conditions_of
from collapse_sim.data.toys.linear_data import LinearData
from collapse_sim.families.linear import LinearRegression
from tests.data.making import draws


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
