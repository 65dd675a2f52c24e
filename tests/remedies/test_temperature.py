"""Temperatures: variances in closed form through the real loop, and what they are for each family."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.families.base import Conditions
from collapse_sim.families.ddpm import DDPM, alphas_cumprod
from collapse_sim.remedies.temperature import Temperature
from tests.families.denoising import Oracle
from tests.families.test_ddpm import exact
from tests.remedies.chains_of import (
    EDM,
    FLOW,
    SMALL_DDPM,
    VAE,
    assert_close,
    digits,
    experiment_of,
    gaussian,
    grammar,
    means,
    plans,
    ran,
    rows_of,
)
from tests.remedies.test_sims import linear_chain


@pytest.mark.parametrize("b", [0.9, 1.1])
def test_a_gaussians_variance_changes_by_b_squared_a_generation(sandbox, b):
    expected = [(1 - 1 / 20) * (b**2 * (1 - 1 / 20)) ** k for k in range(3)]
    assert_close(
        means(sandbox, gaussian(f"guidance: {{use: temperature, b: {b}}}", rows=20), "variance_ratio"), expected
    )


@pytest.mark.parametrize("recipe", [gaussian, grammar, lambda axes: digits(VAE, axes)], ids=["toy", "text", "images"])
def test_a_temperature_of_1_is_the_plain_arm(sandbox, recipe):
    arms = plans(sandbox, recipe("guidance: {use: temperature, b: 1}"))
    for plain, remedy in zip(arms["plain"], arms["remedy"], strict=True):
        assert [spec.digest for spec in plain.specs()] == [spec.digest for spec in remedy.specs()]


@pytest.mark.parametrize("model", [VAE, FLOW, SMALL_DDPM, EDM, f"{EDM}, s_churn: 1.0"])
def test_images_of_every_family(sandbox, model):
    """Through `run`: the same fit of generation 0, other samples."""
    arms, store = ran(sandbox, digits(model, "guidance: {use: temperature, b: 0.5}"))
    plain, remedy = arms["plain"][0], arms["remedy"][0]
    assert plain.fit.digest == remedy.fit.digest
    assert not np.array_equal(rows_of(store, plain.samples)["image"], rows_of(store, remedy.samples)["image"])


def test_a_vaes_latents_are_scaled(sandbox):
    """The decoder at b z, of the same z."""
    from collapse_sim.core.machine import open_device
    from collapse_sim.engine import artefacts

    arms, store = ran(sandbox, digits(VAE, "guidance: {use: temperature, b: 0.5}"))
    plan = arms["remedy"][0]
    model = artefacts.model(store, plan.fit, (3,), open_device("cpu"))
    z = Draws((3,), "sample", 0, 0).normal(25, 2)
    images = (model.decoder(0.5 * z).sigmoid() * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(rows_of(store, plan.samples)["image"][:25].reshape(25, -1), images)


@pytest.mark.slow
def test_texts_are_those_of_the_models_own_setting(sandbox):
    arms, store = ran(sandbox, grammar("guidance: {use: temperature, b: 0.5}"))
    cold = rows_of(store, arms["remedy"][0].samples)["tokens"]
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    arms, store = ran(other, grammar("init: fresh").replace("layers: 1", "layers: 1, temperature: 0.5"))
    np.testing.assert_array_equal(cold, rows_of(store, arms["plain"][0].samples)["tokens"])


@pytest.mark.parametrize("target", ["epsilon", "v"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_diffusion_scales_the_score(target, sampler):
    """N(0, s^2) data with exact answers: every step multiplies the noise by 1 / b^2, whatever is predicted."""
    family = DDPM(timesteps=200, sampler=sampler, target=target)
    kept = alphas_cumprod(200, "linear", False, torch.device("cpu"))
    model = Oracle((2,), exact(target, 0.0, 0.5, kept))
    _, tempered = Temperature(b=0.8).models(family, model, None)
    x = family.sample(tempered, Conditions(20_000, {}), Draws((0,), "sample", 0))["x"]
    spread = linear_chain(
        kept.double(), lambda a: math.sqrt(1 - a) / (a * 0.25 + 1 - a) / 0.64, float(sampler == "ddpm")
    )
    assert float(x.std()) == pytest.approx(spread, rel=0.015)
    assert spread < 0.9 * linear_chain(kept.double(), lambda a: math.sqrt(1 - a) / (a * 0.25 + 1 - a), 1.0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (gaussian("guidance: {use: temperature, b: 0}"), "arms.remedy.guidance.b: found 0; allowed: above 0"),
        (
            grammar("guidance: {use: temperature, b: 0.5}").replace("layers: 1", "layers: 1, decoding: greedy"),
            "arms.remedy.guidance: causal_lm has no temperature; without decoding: sample",
        ),
        (
            gaussian("guidance: {use: temperature, b: 2}").replace("model: {use: gaussian}", "model: {use: kde}"),
            "arms.remedy.guidance: kde has no temperature; allowed: gaussian",
        ),
    ],
)
def test_what_has_no_temperature_is_refused_before_work(sandbox, recipe, message):
    with pytest.raises(RecipeError, match=message):
        experiment_of(sandbox, recipe)
