"""Transport: the potentials against the exact dual in one dimension, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from collapse_sim.remedies.row_vectors import squared_distances
from collapse_sim.remedies.transport import Transport, potentials
from tests.remedies.candidate_pools import curation_draws, normal, points


def test_potentials_are_the_gradient_of_the_cost():
    """The derivative of the (entropic) cost by the weight of a row: finite differences of POT's own cost."""
    import ot

    x, y = normal(12, 2).numpy() + 1, normal(9, 2, 1).numpy()
    costs = squared_distances(x, y)
    potential, _, error = potentials(costs, 0.5)
    assert error < 1e-3
    reg = 0.5 * costs.mean()

    def objective(weights):
        plan = ot.bregman.sinkhorn_log(weights, np.full(9, 1 / 9), costs, reg, 5000, 1e-12)
        return (plan * costs).sum() + reg * (plan * np.log(plan)).sum()

    for i, j in ((0, 1), (3, 7)):
        step = np.zeros(12)
        step[i], step[j] = 1e-5, -1e-5
        uniform = np.full(12, 1 / 12)
        slope = (objective(uniform + step) - objective(uniform - step)) / 2e-5
        assert potential[i] - potential[j] == pytest.approx(slope, rel=1e-2, abs=1e-3)


def test_kept_candidates_are_nearer_to_the_real_rows():
    real = normal(300, 2)
    shifted = normal(400, 2, 1) + 0.8
    choice = Transport(keep=0.25).choose(points(shifted, real), 100, curation_draws())
    assert len(choice.index.unique()) == 100
    assert choice.report["cost_of_kept"] < 0.5 * choice.report["cost_of_all"]
    assert float(shifted[choice.index].mean()) < 0.4
    assert choice.report["marginal_error"] < 0.05


def test_a_wrong_half_is_left_out():
    real = normal(200, 1)
    x = torch.cat([normal(200, 1, 1), normal(200, 1, 2) + 8])
    choice = Transport().choose(points(x, real), 200, curation_draws())
    assert int((choice.index < 200).sum()) > 190


def test_settings_and_rows_that_are_all_the_same():
    assert Transport(keep=1.0).keeps_all
    same = torch.zeros(20, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="are the same row"):
        Transport().choose(points(same, same), 10, curation_draws())
