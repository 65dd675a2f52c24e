"""What is fitted again and what is not: settings of the sampler, and of the fits after the first."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.machine import Machine, open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.engine.artefacts import model as load_model
from collapse_sim.engine.sample import sample
from collapse_sim.engine.score import rows
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.families import held_out_loss
from collapse_sim.families.base import Conditions
from collapse_sim.families.held_out_loss import HeldOutLoss
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.sizes import forward_operations
from collapse_sim.recipe.loader import load
from collapse_sim.store.jobs import Job
from collapse_sim.store.store import Store
from tests.conftest import TINY


class Faded(VAE):
    """A VAE whose samples are darkened: `fade` is nothing that a fit depends on."""

    fade: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0

    sampling: ClassVar[tuple[str, ...]] = ("fade",)

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, torch.Tensor]:
        images = super().sample(model, conditions, draws)["image"]
        return {"image": (images * self.fade).to(torch.uint8)}


FADED = TINY.replace("use: vae", f"use: {__name__}:Faded")


def test_a_sampler_setting_costs_no_fit_of_generation_0(sandbox):
    first = prepare(load(sandbox.recipe(FADED)), sandbox.root)
    other = prepare(load(sandbox.recipe(FADED), overrides=["model.fade=0.5"]), sandbox.root)
    plans, changed = first.arm_plans[0].generations, other.arm_plans[0].generations
    assert plans[0].fit.digest == changed[0].fit.digest
    assert plans[0].samples.digest != changed[0].samples.digest
    assert plans[1].fit.digest != changed[1].fit.digest  # it is fitted to other samples
    sandbox.run(FADED)
    before = len(sandbox.journal())
    sandbox.run(FADED, run="again", overrides=["model.fade=0.5"])
    assert len(sandbox.journal()) == before
    zeroth = next(line for line in sandbox.journal("again", event="generation") if line["generation"] == 0)
    assert zeroth["reused"]["fit"] == 2
    assert zeroth["made"]["samples"] == 2


def test_retrain_takes_over_after_generation_0(sandbox):
    recipe = TINY + "\nretrain: {steps: 5, learning_rate: 1e-4, evaluate: never, keep: last}\n"
    experiment = prepare(load(sandbox.recipe(recipe)), sandbox.root)
    plans = experiment.arm_plans[0].generations
    assert [plan.fit.train and plan.fit.train.steps for plan in plans] == [20, 5, 5]
    assert (
        plans[0].fit.digest == prepare(load(sandbox.recipe(TINY)), sandbox.root).arm_plans[0].generations[0].fit.digest
    )
    assert plans[1].fit.train is not None
    assert (plans[1].fit.train.learning_rate, plans[1].fit.train.batch_size) == (1e-4, 32)
    sandbox.run(recipe)
    assert len(sandbox.journal(event="generation")) == 3


def test_retrain_may_count_in_the_other_unit():
    recipe = load("quickstart", overrides=["retrain={epochs: 2}"])
    assert recipe.train is not None
    assert recipe.retrain is not None
    assert (recipe.train.steps, recipe.train.epochs) == (250, None)
    assert (recipe.retrain.steps, recipe.retrain.epochs) == (None, 2)
    assert recipe.for_arm(recipe.arms[0]).train_of(0) is recipe.train
    assert recipe.for_arm(recipe.arms[0]).train_of(1) is recipe.retrain


def test_operations_of_a_row_are_those_of_its_layers():
    info = Info("images", {"image": ((1, 4, 4), "uint8")}, 1, 1, 1)
    # encoder 16 -> 8 -> 2 x 3, decoder 3 -> 8 -> 16: a multiplication and an addition for each weight
    assert forward_operations(VAE(hidden=8, latent=3), info) == 2 * (16 * 8 + 8 * 6 + 3 * 8 + 8 * 16)


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


def test_a_wish_to_stop_is_heard_within_a_shard(sandbox):
    calls: list[int] = []
    stop = Stop()

    class Iterative(VAE):
        def build(self, info: Info) -> nn.Module:
            model = super().build(info)
            model.forward = lambda x: x  # type: ignore[method-assign]
            return model

        def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, torch.Tensor]:
            for call in range(10):
                calls.append(call)
                if call == 1:
                    stop.signal_number = 2
                model(draws.normal(1, 16))
            raise AssertionError("the wish was not heard")

    sandbox.run(TINY)
    spec = prepare(load(sandbox.recipe(TINY)), sandbox.root).arm_plans[0].generations[0].samples
    object.__setattr__(spec.model, "family", Iterative(hidden=16, latent=2))
    store = Store(sandbox.root / ".store", stop.check)
    work = JobContext(store, Machine(torch.device("cpu"), "fp32"), lambda event: None, sandbox.root, stop)
    with pytest.raises(InterruptedRunError):
        sample(Job(spec, (0,), ("replace",)), sandbox.root, work)
    assert calls == [0, 1]


def test_metrics_of_an_ensemble_see_the_real_rows_that_it_is_fitted_to(sandbox):
    """A part of a file's rows, another one for every seed: the mean of each is the fitted one."""
    np.save(sandbox.root / "p.npy", np.random.default_rng(0).normal(size=(60, 2)))
    recipe = """
    data: {use: point_files, path: p.npy, rows: 20, held_out: 10}
    model: gaussian
    generations: 1
    seeds: 3
    arms: {replace: {data: replace}}
    metrics: [{use: sliced_w2, against: real}]
    """
    _, store = sandbox.loop(recipe)
    plan = prepare(load(sandbox.recipe(recipe)), sandbox.root).arm_plans[0].generations[0]
    (score,) = plan.scores.values()
    seen = rows(store, score, (0, 1, 2), "real")["x"]
    means = load_model(store, plan.fit, (0, 1, 2), open_machine("cpu", "fp32")).mean
    torch.testing.assert_close(seen.mean(1), means)
    assert not torch.equal(means[0], means[1])
