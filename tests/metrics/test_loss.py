"""The mean loss over rows that are not trained on, and the metric over it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from collapse_sim.core.randomness import Draws
from collapse_sim.families.base import Inputs
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.held_out_loss import BATCH_ROWS, mean_loss, role_of_batch
from collapse_sim.families.linear import LinearRegression
from collapse_sim.families.vae import VAE
from collapse_sim.metrics.loss import TestLoss


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
    loss = mean_loss(Distance(), model.train(), rows, draws_for, 10, machine)
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
    a = mean_loss(Distance(), first, rows, draws_for, 4, machine)
    mean_loss(Distance(), second, rows, draws_for, 4, machine)
    assert mean_loss(Distance(), first, rows, draws_for, 4, machine) == a


def test_no_rows(machine):
    with pytest.raises(ValueError, match="the held-out set is empty"):
        mean_loss(Distance(), nn.Linear(3, 3), {"x": torch.randn(0, 3)}, draws_for, 4, machine)


def test_mode_is_restored_after_an_error(machine):
    model = nn.Linear(4, 4).train()
    with pytest.raises(RuntimeError):
        mean_loss(Distance(), model, {"x": torch.randn(5, 3)}, draws_for, 4, machine)
    assert model.training


def test_ensemble_gives_each_member_its_own_loss(machine):
    """Against torch's own density, one member at a time."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 23, 2, dtype=torch.float64, generator=generator)
    family = Gaussian()
    model = family.solve(None, {"x": x[:, :9]}, None, {}, None)
    draws = lambda batch: Draws((0, 1, 2), role_of_batch(batch), 0, stacked=True)  # noqa: E731
    losses = mean_loss(family, model, {"x": x}, draws, 2, machine, stacked=True)
    assert losses.shape == (3,)
    for loss, mean, covariance, rows in zip(losses, model.mean, model.covariance, x, strict=True):
        normal = torch.distributions.MultivariateNormal(mean, covariance)
        assert float(loss) == pytest.approx(-float(normal.log_prob(rows).mean()), rel=1e-10)


def test_metric_of_regression_is_the_mean_squared_error(evaluation):
    x, y = torch.randn(2, 30, 4, dtype=torch.float64), torch.randn(2, 30, dtype=torch.float64)
    model = LinearRegression().solve(type("Info", (), {"constants": {}})(), {"x": x, "y": y}, None, {}, None)
    given = {"model": model, "held_out rows": {"x": x, "y": y}}
    seen = evaluation(given, family=LinearRegression(), stacked=True, seeds=(0, 1))
    expected = [((x[s] @ model.weights[s] - y[s]) ** 2).mean() for s in range(2)]
    torch.testing.assert_close(TestLoss().score(seen), torch.stack(expected))
    assert seen.asked == set(TestLoss().needs)


def test_metric_of_a_vae_is_a_float_and_repeats(evaluation, digits_info):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (BATCH_ROWS + 200, 1, 8, 8), dtype=torch.uint8)
    family = VAE(hidden=8, latent=2)
    given = {"model": family.build(digits_info).eval(), "held_out rows": {"image": images, "label": torch.zeros(1200)}}
    seen = evaluation(given, family=family)
    loss = TestLoss().score(seen)
    assert isinstance(loss, float)
    assert 0.5 < loss < 0.9  # about log 2 nats per pixel before any training
    seen.generation = 4
    assert TestLoss().score(seen) == loss


def test_check_wants_held_out_rows(digits_info):
    TestLoss().check(digits_info, None, 10)
    with pytest.raises(ValueError, match="needs held-out rows"):
        TestLoss().check(dataclasses.replace(digits_info, held_out=0), None, 10)
