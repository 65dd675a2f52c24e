from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.remedies.likelihood import Likelihood
from collapse_sim.remedies.verify import Verify
from tests.families.wording import TEXT, TINY

from .candidates import POINTS, draws, points, pool

LOSSES = torch.tensor([3.0, 1.0, math.inf, 2.0])


def test_the_least_or_the_most_likely_rows_are_kept():
    asked = []

    def losses(judge):
        asked.append(judge)
        return LOSSES

    candidates = pool(points(0, 1, 2, 3), losses=losses)
    assert Likelihood().choose(candidates, 2, draws()).index.tolist() == [0, 2]
    assert Likelihood(rank="top").choose(candidates, 2, draws()).index.tolist() == [1, 3]
    assert asked == ["model", "model"]


def test_losses_that_do_not_rank_are_errors():
    with pytest.raises(ValueError, match="the loss is 1 for all 2 candidates"):
        Likelihood().choose(pool(points(0, 1), losses=lambda judge: torch.ones(2)), 1, draws())
    with pytest.raises(ValueError, match="the loss is nan for 2 of 2 candidates"):
        Likelihood().choose(pool(points(0, 1), losses=lambda judge: torch.full((2,), math.nan)), 1, draws())


def test_families_without_the_loss_of_rows_are_refused():
    Likelihood().check(GaussianPoints(), POINTS, Gaussian())
    with pytest.raises(ValueError, match="SimpleNamespace has no loss of single rows"):
        Likelihood().check(GaussianPoints(), POINTS, SimpleNamespace())


@pytest.mark.parametrize("rule", [Likelihood(loss_draws=2), Verify(loss_draws=2)])
def test_a_loss_without_noise_is_not_averaged(rule):
    with pytest.raises(ValueError, match="`loss_draws` has no meaning for texts, whose loss has no noise"):
        rule.check(None, TEXT, TINY)
