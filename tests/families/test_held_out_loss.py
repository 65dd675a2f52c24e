"""The loss on held-out rows, however many of them are seen at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families import held_out_loss
from collapse_sim.families.base import Inputs
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.held_out_loss import HeldOutLoss, role_of_batch
from collapse_sim.families.vae import VAE
from collapse_sim.testing import CPU
from tests.families.wording import TEXT, TINY, built, draws, number, texts


class CountingMachine:
    """A CPU that counts its forward passes."""

    def __init__(self) -> None:
        self.device, self.entered = torch.device("cpu"), 0

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        self.entered += 1
        yield


@pytest.fixture
def machine():
    return CountingMachine()


class Distance:
    """A family of ten lines: loss |x + noise - centre|^2, counted in entries instead of rows."""

    columns = ("x",)

    def corrupt(self, rows, draws):
        noise = draws.normal(*rows["x"].shape)
        return Inputs({"x": rows["x"] + noise}, count=torch.tensor(rows["x"].numel()))

    def predict(self, model, inputs):
        assert not model.training
        assert not torch.is_grad_enabled()
        return model(inputs["x"])

    def loss(self, prediction, inputs):
        return (prediction - inputs["x"]).square().sum()


def draws_for(batch: int) -> Draws:
    return Draws((5,), role_of_batch(batch), 0)


def test_is_the_sum_over_batches_by_the_total_count(machine):
    rows, model = {"x": torch.randn(25, 3), "unused": torch.zeros(25)}, nn.Linear(3, 3)
    loss = HeldOutLoss(Distance(), model.train(), rows, draws_for, 10, machine).mean()
    total = 0.0
    with torch.no_grad():
        for batch in range(3):
            x = rows["x"][10 * batch : 10 * batch + 10]
            x = x + draws_for(batch).normal(*x.shape)
            total += float((model(x) - x).square().sum())
    assert loss.dtype == torch.float64
    assert loss.shape == ()
    assert float(loss) == pytest.approx(total / 75, rel=1e-6)
    assert model.training  # as it was before
    assert machine.entered == 3


def test_the_same_each_time_and_for_each_model_the_same_draws(machine):
    rows = {"x": torch.randn(7, 3)}
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    a = HeldOutLoss(Distance(), first, rows, draws_for, 4, machine).mean()
    HeldOutLoss(Distance(), second, rows, draws_for, 4, machine).mean()
    assert HeldOutLoss(Distance(), first, rows, draws_for, 4, machine).mean() == a


def test_no_rows(machine):
    with pytest.raises(ValueError, match="the held-out set is empty"):
        HeldOutLoss(Distance(), nn.Linear(3, 3), {"x": torch.randn(0, 3)}, draws_for, 4, machine).mean()


def test_mode_is_restored_after_an_error(machine):
    model = nn.Linear(4, 4).train()
    with pytest.raises(RuntimeError):
        HeldOutLoss(Distance(), model, {"x": torch.randn(5, 3)}, draws_for, 4, machine).mean()
    assert model.training


def test_ensemble_gives_each_member_its_own_loss(machine):
    """Against torch's own density, one member at a time."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 23, 2, dtype=torch.float64, generator=generator)
    family = Gaussian()
    model = family.solve(None, {"x": x[:, :9]}, None, {}, None)
    draws = lambda batch: Draws((0, 1, 2), role_of_batch(batch), 0, stacked=True)  # noqa: E731
    losses = HeldOutLoss(family, model, {"x": x}, draws, 2, machine, stacked=True).mean()
    assert losses.shape == (3,)
    for loss, mean, covariance, rows in zip(losses, model.mean, model.covariance, x, strict=True):
        normal = torch.distributions.MultivariateNormal(mean, covariance)
        assert float(loss) == pytest.approx(-float(normal.log_prob(rows).mean()), rel=1e-10)


@pytest.mark.parametrize("values", [1, 1000, 10**9])
def test_the_mean_loss_does_not_depend_on_how_much_the_network_sees(monkeypatch, values):
    info = Info("images", {"image": ((1, 4, 4), "uint8")}, 1, 1, 1)
    family, machine = VAE(hidden=8, latent=3), Machine(torch.device("cpu"), "fp32")
    with machine.seeded(0):
        model = family.build(info)
    rows = {"image": torch.randint(0, 256, (150, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)}

    def loss() -> torch.Tensor:
        return HeldOutLoss(family, model, rows, lambda i: Draws((0,), "x", 0, i), 100, machine).mean()

    whole = loss()
    monkeypatch.setattr(held_out_loss, "PIECE_VALUES", values)
    assert torch.isclose(loss(), whole, rtol=1e-6)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_a_mean_loss_does_not_depend_on_how_many_rows_are_seen_at_once(at_once, monkeypatch):
    model, rows = built(TINY, TEXT), texts()
    whole = HeldOutLoss(TINY, model, rows, lambda batch: draws(), 1000, CPU).mean()
    monkeypatch.setattr(CausalLM, "rows_at_once", lambda *_: at_once)
    assert number(HeldOutLoss(TINY, model, rows, lambda batch: draws(), 13, CPU).mean()) == pytest.approx(
        number(whole), rel=1e-6
    )
    assert number(TINY.nats(model, rows)[0].sum() / TINY.nats(model, rows)[1].sum()) == pytest.approx(
        number(whole), rel=1e-6
    )
