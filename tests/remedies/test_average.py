"""Averages over generations: their closed forms on Gaussian chains, and where they make no sense."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.errors import RecipeError
from collapse_sim.remedies.average import Average
from tests.remedies.chains_of import VAE, assert_close, digits, experiment_of, gaussian, grammar, means, plans, ran


@pytest.mark.parametrize(
    ("axes", "rates"), [("average", [1, 1 / 2, 1 / 3]), ("{use: average, rate: 0.3}", [1, 0.3, 0.3])]
)
def test_the_expected_covariance_follows_the_recursion(sandbox, axes, rates):
    """V'_k = (1 - a_k) V'_{k-1} + a_k (1 - 1/n) V'_{k-1}, with the fit of generation 0 as it is."""
    expected = [0.9]
    for rate in rates[1:]:
        expected.append((1 - rate) * expected[-1] + rate * 0.9 * expected[-1])
    assert_close(means(sandbox, gaussian(f"merge: {axes}", rows=10), "variance_ratio"), expected)


@pytest.mark.parametrize("recipe", [grammar, lambda axes: digits(VAE, axes)], ids=["text", "images"])
def test_without_a_rate_it_is_the_mean_of_all_fits(sandbox, recipe):
    arms, store = ran(sandbox, recipe("init: previous, merge: average").replace("generations: 1", "generations: 2"))
    plan = arms["remedy"]
    assert plan[0].model is plan[0].fit
    assert [generation.fit.init for generation in plan] == [None, plan[0].model, plan[1].model]
    fits = [load_file(store.block(generation.fit, 3).file("model.safetensors")) for generation in plan]
    mean = load_file(store.block(plan[2].model, 3).file("model.safetensors"))
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, torch.stack([fit[name] for fit in fits]).mean(0))


def test_a_rate_of_1_is_the_plain_arm(sandbox):
    arms = plans(sandbox, gaussian("merge: {use: average, rate: 1}"))
    assert [p.samples.digest for p in arms["plain"]] == [p.samples.digest for p in arms["remedy"]]


@pytest.mark.parametrize("recipe", [digits(VAE, "merge: average"), grammar("merge: average")])
def test_fits_that_begin_with_different_weights_are_refused(sandbox, recipe):
    with pytest.raises(RecipeError, match="whose fits begin with different ones; set the arm's init: previous"):
        experiment_of(sandbox, recipe)
    experiment_of(sandbox, recipe.replace("merge: average", "init: previous, merge: average"))


def test_coefficients_add_up_to_1():
    for average in (Average(), Average(rate=0.25)):
        for k in range(5):
            assert sum(average.coefficients(k).values()) == pytest.approx(1)
