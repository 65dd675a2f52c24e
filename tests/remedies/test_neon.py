"""Neon: its closed forms through the real loop, and that w = 0 is the plain arm."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.errors import RecipeError
from tests.remedies.chains_of import (
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
)

LINEAR = """
name: linear
data: {use: linear, dimensions: 5, rows: 40, noise: 1.0, fresh_rows: 10}
model: {use: linear, design: fresh}
generations: 2
samples: 40
seeds: 600
arms:
  remedy: {data: replace, merge: {use: neon, w: 0.8}}
metrics: [excess_test_error]
"""


def test_a_gaussians_variance_is_unbiased_at_one_w(sandbox):
    """E[(1+w) S_r - w S_s] = (1 + w / n_s)(1 - 1/n) V, which is V at w = n_s / (n - 1); plain it is (1 - 1/n) V."""
    axes = "merge: {use: neon, w: 1.0204081632653061}"  # 50 / 49
    assert_close(means(sandbox, gaussian(axes), "variance_ratio"), [1.0, 1.0, 1.0])


def test_the_number_of_own_samples_is_a_setting(sandbox):
    """w = 80 / 49 for 80 own samples."""
    axes = "merge: {use: neon, w: 1.6326530612244898, samples: 80}"
    recipe = gaussian(axes, generations=1, seeds=600)
    assert_close(means(sandbox, recipe, "variance_ratio"), [1.0, 1.0])
    assert [spec.rows for spec in plans(sandbox, recipe)["remedy"][0].between if hasattr(spec, "rows")] == [80]


def test_least_squares_gets_worse_by_one_plus_w_squared(sandbox):
    """theta = theta_r - w u_s with u_s another solution's noise: each generation adds (1 + w^2) s^2 d / (T - d - 1)."""
    unit = 5 / (40 - 5 - 1)
    assert_close(means(sandbox, LINEAR, "excess_test_error"), [unit * (1 + 0.8**2) * (k + 1) for k in range(3)])


@pytest.mark.parametrize("recipe", [gaussian, grammar, lambda axes: digits(VAE, axes)], ids=["toy", "text", "images"])
def test_w_of_0_is_the_plain_arm(sandbox, recipe):
    arms = plans(sandbox, recipe("merge: {use: neon, w: 0}"))
    for plain, remedy in zip(arms["plain"], arms["remedy"], strict=True):
        assert [spec.digest for spec in plain.specs()] == [spec.digest for spec in remedy.specs()]


@pytest.mark.parametrize("recipe", [grammar, lambda axes: digits(VAE, axes), lambda axes: digits(SMALL_DDPM, axes)])
def test_networks_are_extrapolated_tensor_by_tensor(sandbox, recipe):
    """Against the stored parents; the second fit begins with the first and is trained on its own samples."""
    arms, store = ran(sandbox, recipe("merge: {use: neon, w: 1.5, train: {steps: 2, learning_rate: 0.001}}"))
    for plan in arms["remedy"]:
        own, second, merged = plan.between
        assert (second.init, second.sources) == (plan.fit, (own,))
        assert (second.train.steps, second.train.learning_rate) == (2, 0.001)
        assert own.model is plan.fit
        assert merged is plan.model is plan.samples.model
        base, other, result = (
            load_file(store.block(s, 3).file("model.safetensors")) for s in (plan.fit, second, merged)
        )
        for name, tensor in result.items():
            exact = 2.5 * base[name].double() - 1.5 * other[name].double()
            assert torch.equal(tensor, exact.to(tensor.dtype)), name
        assert any(not torch.equal(base[name], tensor) for name, tensor in result.items())
    assert arms["remedy"][0].fit.digest == arms["plain"][0].fit.digest


def test_another_w_needs_no_other_fit(sandbox):
    first = plans(sandbox, gaussian("merge: {use: neon, w: 0.5}"))["remedy"][0]
    second = plans(sandbox, gaussian("merge: {use: neon, w: 0.7}"))["remedy"][0]
    assert [a.digest == b.digest for a, b in zip(first.between, second.between, strict=True)] == [True, True, False]
    assert first.samples.digest != second.samples.digest


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (gaussian("merge: {use: neon, w: 1, train: {steps: 3}}"), "train: the model is solved in closed form"),
        (gaussian("merge: {use: neon, w: .inf}"), "arms.remedy.merge.w: .*finite"),
        (gaussian("merge: {use: neon}"), "arms.remedy.merge.w: missing"),
        (
            gaussian("merge: {use: neon, w: 1}").replace("model: {use: gaussian}", "model: {use: gmm, components: 2}"),
            "arms.remedy.merge: the parameters of two gmm models do not correspond",
        ),
        (digits(VAE, "merge: {use: neon, w: 1, train: {steps: 3, epochs: 2}}"), "`epochs` and `steps` say the same"),
        (digits(VAE, "merge: {use: neon, w: 1, train: {rate: 3}}"), "unknown key 'rate'"),
        (
            LINEAR.replace("design: fresh", "design: fixed").replace("w: 0.8", "w: 1, samples: 41"),
            "41 is more than the 40",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_work(sandbox, recipe, message):
    with pytest.raises(RecipeError, match=message) as caught:
        experiment_of(sandbox, recipe)
    assert "recipe.yaml:" in str(caught.value)
