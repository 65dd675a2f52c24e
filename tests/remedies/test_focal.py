"""The focal loss against its formula and its derivative."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.remedies.focal import Focal


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_loss_and_gradient(gamma):
    """d/dp of -(1 - p)^g log p is g (1 - p)^(g - 1) log p - (1 - p)^g / p: the factor has a gradient, too."""
    p = torch.tensor([0.01, 0.3, 0.9, 0.999], dtype=torch.float64, requires_grad=True)
    nats = -p.log()
    loss = Focal(gamma=gamma).factors(nats) * nats
    torch.testing.assert_close(loss, (1 - p) ** gamma * -p.log())
    (gradient,) = torch.autograd.grad(loss.sum(), p)
    torch.testing.assert_close(gradient, gamma * (1 - p) ** (gamma - 1) * p.log() - (1 - p) ** gamma / p)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_where_there_is_no_token_there_is_no_loss_and_no_gradient(gamma):
    nats = torch.zeros(2, 3, requires_grad=True)
    (Focal(gamma=gamma).factors(nats) * nats).sum().backward()
    assert nats.grad is not None
    assert not nats.grad.any()


def test_without_an_exponent_it_changes_nothing():
    plan = Plan((Source(REAL, 5),))
    assert not Focal(gamma=0.0).changes(plan)
    assert Focal().changes(plan)


def test_through_run(sandbox):
    from tests.remedies.test_tce import artefacts_of

    assert artefacts_of(sandbox, "focal") == 1 + 2 * 3 * 2
    losses = {(line["arm"], line["metrics"]["test_loss"][0]) for line in sandbox.journal(event="scores")}
    assert len(losses) == 4
