"""Truncated latents: the variance of a truncated normal, through the real loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import truncnorm

from collapse_sim.core.errors import RecipeError
from tests.remedies.chains_of import (
    EDM,
    SMALL_DDPM,
    VAE,
    assert_close,
    digits,
    experiment_of,
    gaussian,
    grammar,
    means,
    ran,
    rows_of,
)


def test_a_gaussians_variance_is_that_of_a_truncated_normal(sandbox):
    factor = truncnorm(-1.5, 1.5).var()
    expected = [0.95 * (0.95 * factor) ** k for k in range(3)]
    assert_close(
        means(sandbox, gaussian("guidance: {use: truncation, limit: 1.5}", rows=20), "variance_ratio"), expected
    )


@pytest.mark.parametrize("model", [VAE, EDM, f"{SMALL_DDPM}, sampler: ddim"])
def test_images(sandbox, model):
    arms, store = ran(sandbox, digits(model, "guidance: {use: truncation, limit: 0.5}"))
    plain, remedy = (rows_of(store, arms[arm][0].samples)["image"] for arm in ("plain", "remedy"))
    assert not np.array_equal(plain, remedy)


@pytest.mark.parametrize(
    "recipe", [grammar, *(lambda axes, m=m: digits(m, axes) for m in (SMALL_DDPM, f"{EDM}, s_churn: 1.0"))]
)
def test_samples_that_are_no_function_of_latents_are_refused(sandbox, recipe):
    with pytest.raises(RecipeError, match="are not a function of normal latents; allowed: gaussian"):
        experiment_of(sandbox, recipe("guidance: {use: truncation, limit: 1}"))


def test_a_limit_that_leaves_nothing_is_refused(sandbox):
    with pytest.raises(RecipeError, match=r"arms.remedy.guidance.limit: .*0\.1"):
        experiment_of(sandbox, gaussian("guidance: {use: truncation, limit: 0.01}"))
