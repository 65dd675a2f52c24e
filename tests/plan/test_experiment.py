"""What is fitted again and what is not: settings of the sampler, and of the fits after the first."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from collapse_sim.core.machine import open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.engine.artefacts import model as load_model
from collapse_sim.engine.score import rows
from collapse_sim.families.base import Conditions
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
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
