"""Mixtures: their modes are where, and as often hit, as they say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from collapse_sim.data.toys.mixtures import EightGaussians, GaussianMixture
from tests.data.making import draws

MIXED = GaussianMixture(means=[[-1, 0.5], [2, 1], [0, 3]], scales=[0.3, 1.0, 0.5], weights=[1, 3, 4])
LINE = GaussianMixture(means=[-2, 1], scales=[0.5, 1], weights=[0.25, 0.75])
SPACE = GaussianMixture(means=[[0, 0, 0, 0, 1], [0, 0, 3, 0, 0]], scales=0.5)


def test_eight_gaussians_stand_on_a_circle() -> None:
    data = EightGaussians(radius=3.0, scale=0.02)
    modes = data.true_modes()
    torch.testing.assert_close(modes.norm(dim=1), torch.full((8,), 3.0, dtype=torch.float64))
    gaps = (modes - modes.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(gaps, torch.full((8,), 2 * 3 * math.sin(math.pi / 8), dtype=torch.float64))
    x = data.simulate(8000, draws(0))["x"]
    distance, mode = torch.cdist(x, modes).min(1)
    assert (distance < 0.02 * 6).all()
    assert torch.bincount(mode).tolist() == pytest.approx([1000] * 8, abs=5 * 30)
    assert data.mode_scales().tolist() == [0.02] * 8
    assert data.mode_weights().tolist() == [0.125] * 8


def test_mixture_settings() -> None:
    assert GaussianMixture().mode_weights().tolist() == [0.5, 0.5]
    assert MIXED.mode_weights().tolist() == [0.125, 0.375, 0.5]
    assert MIXED.inspect(Path()).constants == {"modes": 3.0}
    assert LINE.true_modes().tolist() == [[-2], [1]]
    assert LINE.inspect(Path()).columns == {"x": ((1,), "float64")}
    assert SPACE.mode_scales().tolist() == [0.5, 0.5]
