"""What is fitted again and what is not: settings of the sampler, and of the fits after the first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.machine import open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.sources import RowCounts
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.engine.artefacts import model as load_model
from collapse_sim.engine.score import rows
from collapse_sim.families.base import Conditions
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.settings import Arm
from collapse_sim.plan.strategies import Growing
from collapse_sim.recipe.loader import load
from tests.chains import chain_of
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


GROWING = """
data: {use: gaussian, rows: 4}
model: gaussian
generations: 8
seeds: 600
arms:
  growing: {data: growing}
  linear: {data: {use: growing, power: 1}}
  shrinking: {data: {use: shrinking, share: 0.5}}
metrics: [variance_ratio]
"""


def test_growing_samples_through_the_loop(sandbox):
    """E[variance] = prod (1 - 1/N_t): with N_t = N t^2 it stays above sin(pi/sqrt N) / (pi/sqrt N)."""
    sandbox.run(GROWING)
    results = read_results(sandbox.root / "run")
    for arm, power in (("growing", 2), ("linear", 1)):
        for k in range(9):
            values = np.array(list(results.scores(arm, "variance_ratio", k).values()))
            expected = math.prod(1 - 1 / (4 * t**power) for t in range(1, k + 2))
            assert abs(values.mean() - expected) < 3 * values.std(ddof=1) / math.sqrt(len(values)), (arm, k)
            assert results.theory[arm]["variance_ratio"][k] == pytest.approx(expected)
    for k in range(9):
        values = np.array(list(results.scores("shrinking", "variance_ratio", k).values()))
        expected = results.theory["shrinking"]["variance_ratio"][k]
        assert abs(values.mean() - expected) < 3 * values.std(ddof=1) / math.sqrt(len(values)), k
    assert results.theory["growing"]["variance_ratio"][-1] > math.sin(math.pi / 2) / (math.pi / 2)


def test_growing_samples_reach_the_closed_form():
    chain = chain_of(Arm("growing", Growing()), RowCounts(4, 4, 4), 300)
    curve = Gaussian().theory("variance_ratio", chain, GaussianPoints(rows=4), GaussianPoints(rows=4).inspect(Path()))
    assert curve is not None
    assert curve[-1] == pytest.approx(math.sin(math.pi / 2) / (math.pi / 2), rel=1e-3)


def test_one_more_generation_of_growing_samples_makes_only_itself(sandbox):
    short = prepare(load(sandbox.recipe(GROWING), overrides=["generations=3"]), sandbox.root)
    longer = prepare(load(sandbox.recipe(GROWING), overrides=["generations=4"]), sandbox.root)
    for plan, other in zip(short.arm_plans, longer.arm_plans, strict=True):
        for one, same in zip(plan.generations, other.generations, strict=False):
            assert [spec.digest for spec in one.specs()] == [spec.digest for spec in same.specs()]
    growing = longer.arm_plans[0].generations
    assert [plan.rows.rows for plan in growing] == [4, 16, 36, 64, 100]
    assert [plan.samples.rows for plan in growing] == [16, 36, 64, 100, 144]


def test_more_samples_than_conditions_are_refused_before_anything_runs(sandbox):
    recipe = """
    data: {use: linear, rows: 30}
    model: {use: linear, design: fixed}
    generations: 2
    seeds: 2
    arms: {growing: {data: {use: growing, power: 1}}}
    metrics: [excess_test_error]
    """
    with pytest.raises(
        RecipeError, match=r"arms\.growing\.data: generation 0 would generate 60 samples, more than the 30"
    ):
        prepare(load(sandbox.recipe(recipe)), sandbox.root)
