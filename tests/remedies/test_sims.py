"""SIMS: combined scores of known distributions in closed form, and stored samples against the combination by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.machine import open_device
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.families.base import Conditions
from collapse_sim.families.ddpm import DDPM, alphas_cumprod
from collapse_sim.families.flow_matching import FlowMatching
from tests.families.denoising import Oracle
from tests.families.test_ddpm import exact
from tests.families.test_flow_matching import velocity
from tests.remedies.chains_of import (
    EDM,
    FLOW,
    SMALL_DDPM,
    VAE,
    digits,
    experiment_of,
    gaussian,
    grammar,
    plans,
    points,
    ran,
    rows_of,
)

W = 0.6
IMAGES = [lambda axes, model=model: digits(model, axes) for model in (SMALL_DDPM, FLOW, EDM)]
RECIPES = [points, grammar, *IMAGES]
every_family = pytest.mark.parametrize("recipe", RECIPES, ids=["toy", "text", "ddpm", "flow", "edm"])


def linear_chain(kept, noise, eta):
    """The samples' standard deviation where the predicted noise is noise(a) x, with a the share of variance that is
    left: Song et al. 2021, equations 12 and 16."""
    times = list(range(len(kept) - 1, -1, -1))
    variance = 1.0
    for t, earlier in zip(times, [*times[1:], None], strict=True):
        a, b = float(kept[t]), 1.0 if earlier is None else float(kept[earlier])
        added = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        clean = (1 - math.sqrt(1 - a) * noise(a)) / math.sqrt(a)
        variance = (math.sqrt(b) * clean + math.sqrt(max(0, 1 - b - added)) * noise(a)) ** 2 * variance + added
    return math.sqrt(variance)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("target", ["epsilon", "v"])
def test_diffusion_combines_scores(target, sampler):
    """Scores of N(0, .5^2) and N(0, .7^2): the predicted noise is linear in x, so the chain's variance is known."""
    family = DDPM(timesteps=200, sampler=sampler, target=target)
    kept = alphas_cumprod(200, "linear", False, torch.device("cpu"))
    model, other = (Oracle((2,), exact(target, 0.0, std, kept)) for std in (0.5, 0.7))
    x = family.sample(family.guided(model, other, W), Conditions(20_000, {}), Draws((0,), "sample", 0))["x"]

    def noise(a):
        return sum(c * math.sqrt(1 - a) / (a * std**2 + 1 - a) for c, std in ((1 + W, 0.5), (-W, 0.7)))

    assert float(x.std()) == pytest.approx(linear_chain(kept.double(), noise, float(sampler == "ddpm")), rel=0.015)


@pytest.mark.parametrize(
    "solver", [{"solver": "euler", "sampling_steps": 400}, {"solver": "midpoint"}, {"solver": "dopri5"}]
)
def test_flow_matching_combines_velocities(solver):
    """dx/dt = ((1+w) k_r - w k_s) x, and the integral of each k is log std: z goes to std_r^(1+w) std_s^-w z."""
    family = FlowMatching(**solver)
    model, other = (Oracle((2,), velocity(0.0, std)) for std in (0.5, 0.7))
    x = family.sample(family.guided(model, other, W), Conditions(1000, {}), Draws((0,), "sample", 0))["x"]
    z = Draws((0,), "sample", 0).normal(1000, 2).double()
    torch.testing.assert_close(x, 0.5 ** (1 + W) * 0.7**-W * z, atol=0.01, rtol=0.01)


@every_family
def test_w_of_0_is_the_plain_arm(sandbox, recipe):
    arms = plans(sandbox, recipe("guidance: {use: sims, w: 0, train: {steps: 2}}"))
    for plain, remedy in zip(arms["plain"], arms["remedy"], strict=True):
        assert [spec.digest for spec in plain.specs()] == [spec.digest for spec in remedy.specs()]


@every_family
def test_a_run_draws_from_both_models(sandbox, recipe):
    """The stored samples are those of the two stored models, combined; the next generation is fitted to them."""
    arms, store = ran(sandbox, recipe("guidance: {use: sims, w: 1.5, samples: 30, train: {steps: 3}}"))
    plan = arms["remedy"][0]
    own, second = plan.between
    assert (own.rows, own.guidance, second.init) == (30, None, plan.fit)
    assert arms["remedy"][1].fit.sources == (plan.samples,)
    cpu = open_device("cpu")
    model, auxiliary = (artefacts.model(store, spec, (3,), cpu) for spec in (plan.fit, second))
    guided = plan.fit.family.guided(model, auxiliary, 1.5)
    (name,) = rows_of(store, plan.samples)
    for role, spec, drawn_with, rows in (("sample", plan.samples, guided, 25), ("own sample", own, model, 25)):
        with torch.no_grad():
            expected = plan.fit.family.sample(drawn_with, Conditions(rows, {}), Draws((3,), role, 0, 0))[name]
        np.testing.assert_array_equal(rows_of(store, spec)[name][:rows], expected.numpy())
    assert not np.array_equal(rows_of(store, plan.samples)[name], rows_of(store, arms["plain"][0].samples)[name])


def test_another_w_needs_no_other_fit(sandbox):
    first, second = (
        plans(sandbox, digits(SMALL_DDPM, f"guidance: {{use: sims, w: {w}}}"))["remedy"][0] for w in (1, 2)
    )
    assert [spec.digest for spec in first.between] == [spec.digest for spec in second.between]
    assert first.samples.digest != second.samples.digest


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (gaussian("guidance: {use: sims, w: 1}"), "gaussian cannot sample with a second model; allowed: ddpm"),
        (digits(VAE, "guidance: {use: sims, w: 1}"), "vae cannot sample with a second model"),
        (
            grammar("guidance: {use: sims, w: 1}").replace("layers: 1", "layers: 1, decoding: beam"),
            "beam search uses one network only",
        ),
        (digits(SMALL_DDPM, "guidance: {use: sims, w: .nan}"), "arms.remedy.guidance.w: .*finite"),
    ],
)
def test_families_without_a_second_model_are_refused_before_work(sandbox, recipe, message):
    with pytest.raises(RecipeError, match=message):
        experiment_of(sandbox, recipe)
