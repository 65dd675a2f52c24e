"""Chains with a curation, through the real loop, within three standard errors of what theory says.

The recursions are stated here by hand: the law of the kept rows for infinitely many, and a fit to N of them.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from collapse_sim.core.machine import open_device
from collapse_sim.engine import artefacts
from collapse_sim.engine.work import Stop
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.store.store import Store

RECIPE = """
data: {data}
model: {model}
generations: {generations}
seeds: {seeds}
arms: {arms}
metrics: [{metric}]
"""


@pytest.fixture
def chains(sandbox):
    """Run a recipe -> the fitted models and the rows of each fit, by arm and generation: stacked over seeds."""

    def run(data, model, metric, generations, seeds, **arms):
        text = RECIPE.format(
            data=json.dumps(data),
            model=model,
            metric=metric,
            generations=generations,
            seeds=seeds,
            arms=json.dumps(arms),
        )
        sandbox.run(text)
        experiment = prepare(load(sandbox.recipe(text)), sandbox.root / "data")
        store, device = Store(sandbox.root / ".store", Stop().check), open_device("cpu")
        every = experiment.recipe.seeds

        def models(arm):
            plan = next(plan for plan in experiment.arm_plans if plan.name == arm)
            return [artefacts.model(store, generation.fit, every, device) for generation in plan.generations]

        def rows(arm, k):
            plan = next(plan for plan in experiment.arm_plans if plan.name == arm)
            return artefacts.training_stack(store, plan.generations[k].fit, every)

        return models, rows

    return run


def assert_within(values, expected, name, slack=0.0):
    """The mean over seeds is within three standard errors."""
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(len(values))
    assert abs(mean - expected) < 3 * error + slack, f"{name}: {mean:.4f} +- {error:.4f}, theory {expected:.4f}"


GRID = np.linspace(-9, 9, 2401)


def kept_law(mean, variance, reward, k):
    """Mean and variance of the kept rows of N(mean, variance): p H, with H(x) = E[K e^r(x) / (e^r(x) + other odds)]."""
    x = mean + math.sqrt(variance) * GRID
    p = np.exp(-(GRID**2) / 2)
    p /= p.sum()
    odds = np.exp(reward(x))
    if k == "inf":
        weights = p * odds
    else:
        assert k == 2
        weights = p * ((2 * odds[:, None] / (odds[:, None] + odds[None, :])) @ p)
    weights /= weights.sum()
    centre = (weights * x).sum()
    return centre, (weights * (x - centre) ** 2).sum()


@pytest.mark.parametrize("k", [2, "inf"])
def test_choice_among_candidates_moves_a_gaussian_as_theory_says(chains, k):
    """One step and ten of Luce's choice with r = -(x - 1)^2 / 2; for K = inf the precision grows by 1 a generation."""
    n, generations = 1000, 10
    rule = {"use": "luce", "k": k, "reward": {"kind": "quadratic", "centre": 1.0}}
    models, _ = chains(
        {"use": "gaussian", "rows": n, "held_out_rows": 10},
        "gaussian",
        "variance_ratio",
        generations,
        40,
        luce={"data": "replace", "curation": rule},
    )
    fitted = models("luce")
    mean, variance = 0.0, 1 - 1 / n
    for generation, model in enumerate(fitted):
        if generation in (0, 1, generations):
            assert_within(model.mean[:, 0], mean, f"mean of {generation}", slack=2 / n)
            assert_within(model.covariance[:, 0, 0], variance, f"variance of {generation}", slack=2 * variance / n)
        mean, variance = kept_law(mean, variance, lambda x: -((x - 1) ** 2) / 2, k)
        variance *= 1 - 1 / n
    one_step = {2: (0.31, 0.67), "inf": (0.5, 0.5)}[k]
    assert kept_law(0, 1, lambda x: -((x - 1) ** 2) / 2, k) == pytest.approx(one_step, abs=0.006)
    if k == "inf":
        last = float(fitted[generations].covariance.mean())
        assert last == pytest.approx(1 / (1 + generations), rel=0.03)


def test_a_linear_reward_moves_the_mean_by_the_variance_and_leaves_it(chains):
    n, b = 1000, 0.3
    rule = {"use": "luce", "k": "inf", "reward": {"kind": "linear", "direction": b}}
    models, _ = chains(
        {"use": "gaussian", "rows": n, "held_out_rows": 10},
        "gaussian",
        "variance_ratio",
        4,
        40,
        luce={"data": "replace", "curation": rule},
    )
    mean, variance = 0.0, 1 - 1 / n
    for generation, model in enumerate(models("luce")):
        assert_within(model.mean[:, 0], mean, f"mean of {generation}", slack=2 / n)
        assert_within(model.covariance[:, 0, 0], variance, f"variance of {generation}", slack=2 / n)
        mean, variance = mean + b * variance, variance * (1 - 1 / n)


def test_a_perfect_verifier_keeps_the_weights_of_a_mixture(chains):
    """It rejects what the truth does not generate, and of that the same in both modes. A kernel estimate that is
    replaced spreads with every generation, and verified does not leave the modes' neighbourhood."""
    share, log_density = 0.8, math.log(0.2) - 0.5 * math.log(2 * math.pi) - 4.5  # the light mode's, three sd away
    data = {
        "use": "gaussian_mixture", "means": [-20.0, 20.0], "scales": 1.0, "weights": [share, 1 - share],
        "rows": 200, "held_out_rows": 10,
    }  # fmt: skip
    rule = {"use": "verify", "score": "truth", "threshold": log_density, "keep": 0.5}
    _, rows = chains(
        data,
        "{use: kde, bandwidth: 0.8}",
        "test_loss",
        4,
        60,
        plain={"data": "replace"},
        verified={"data": "replace", "curation": rule},
    )
    plain, verified = rows("plain", 4)["x"][..., 0], rows("verified", 4)["x"][..., 0]
    assert_within((verified < 0).double().mean(1), share, "share of the first mode", slack=0.003)
    beyond = math.sqrt(9 + 2 * math.log(4.0))  # where the heavy mode has that density
    assert float((verified.abs() - 20).abs().max()) <= beyond
    assert float((plain.abs() - 20).abs().max()) > beyond + 1


def kept_slope(distance, limit):
    """The distance of the weights from theta_c after least squares on rows that |y - x theta_c| <= limit keeps, from
    the distance before: by quadrature along its direction, x ~ N(0, 1), y = x distance + N(0, 1)."""
    u = np.linspace(-8, 8, 1601)[:, None]
    residuals = np.linspace(-limit, limit, 801)[None, :]
    density = np.exp(-(u**2) / 2) * np.exp(-((residuals - u * distance) ** 2) / 2)
    return float((density * u * residuals).sum() / (density * u**2).sum())


def test_verified_regression_goes_to_the_verifier_and_not_to_the_truth(chains):
    """Yi et al. 2025: without bias it improves on every generation of the unfiltered chain; with bias the distance to
    theta_c shrinks geometrically, and that to the truth levels off at the bias."""
    n, d, shift = 400, 2, 0.3
    rule = {"use": "verify", "score": "truth", "threshold": -0.5, "keep": 0.5}  # |y - x theta_c| <= 1
    models, _ = chains(
        {"use": "linear", "dimensions": d, "rows": n, "held_out_rows": 10},
        "{use: linear, design: fresh}",
        "excess_test_error",
        4,
        60,
        plain={"data": "replace"},
        exact={"data": "replace", "curation": rule},
        biased={"data": "replace", "curation": {**rule, "bias": {"shift": shift}}},
    )
    truth = torch.full((d,), 1 / math.sqrt(d), dtype=torch.float64)
    plain, exact, biased = ([model.weights - truth for model in models(arm)] for arm in ("plain", "exact", "biased"))
    for k in (1, 2, 3, 4):
        assert float(exact[k].square().sum(1).mean()) < float(plain[k].square().sum(1).mean())
    bias = shift * math.sqrt(d)
    distance = bias
    for k in range(5):
        along = (biased[k] - shift).sum(1) / -math.sqrt(d)
        assert_within(along, distance, f"distance to the verifier at generation {k}", slack=1 / n)
        distance = kept_slope(distance, 1.0)
    assert distance < 0.01 * bias
    assert_within(biased[4].sum(1) / math.sqrt(d), bias, "distance to the truth", slack=0.02 * bias)


def weighted_variance(truth, model, b):
    """Of the even mixture of two densities (functions on GRID), weighted by (truth / their sum)^b: by quadrature."""
    r, s = truth(GRID), model(GRID)
    density = (r + s) * (r / (r + s)) ** b
    return float((density * GRID**2).sum() / density.sum())


@pytest.mark.parametrize("b", [1.0, 10.0])
def test_an_exact_detector_gives_back_the_truth_and_overshoots_in_a_chain(chains, b):
    """Half of the rows real, of two modes, half from a Gaussian that was fitted to them: with b = 1 the next fit has
    the variance of the truth, and with b = 10 a larger one."""
    n, spread = 2000, 0.5

    def normal(x, mean, sd):
        return np.exp(-(((x - mean) / sd) ** 2) / 2) / sd

    data = {
        "use": "gaussian_mixture", "means": [-1.5, 1.5], "scales": spread, "weights": [0.5, 0.5], "rows": n,
        "held_out_rows": 10,
    }  # fmt: skip
    rule = {"use": "detector", "p": "exact", "b": b, "by": "weights", "pool": "past"}
    models, _ = chains(data, "gaussian", "test_loss", 1, 40, detected={"data": "mix", "curation": rule})
    variance = models("detected")[1].covariance[:, 0, 0]
    truth = 1.5**2 + spread**2
    expected = weighted_variance(
        lambda x: (normal(x, -1.5, spread) + normal(x, 1.5, spread)) / 2, lambda x: normal(x, 0.0, math.sqrt(truth)), b
    )
    if b == 1:
        assert expected == pytest.approx(truth, rel=1e-3)
    else:
        assert expected > 1.05 * truth
    assert_within(variance, expected, f"variance with b = {b}", slack=3 / n * expected)


def test_ideal_self_correction_is_fresh(chains):
    """A model of (p + g p*) / (1 + g) has the variance (v + g) / (1 + g) + g m^2 / (1 + g)^2; fresh with the share
    g / (1 + g) has that of as many rows: g = 1, and terms of 1 / n."""
    n = 100
    models, _ = chains(
        {"use": "gaussian", "rows": n, "fresh_rows": 5 * n, "held_out_rows": 10}, "gaussian", "variance_ratio", 5, 400,
        fresh={"data": {"use": "fresh", "share": 0.5}},
    )  # fmt: skip
    v, m2 = 1 - 1 / n, 1 / n
    for k, model in enumerate(models("fresh")):
        assert_within(model.covariance[:, 0, 0], v, f"variance of {k}")
        assert_within(model.mean[:, 0] ** 2, m2, f"squared mean of {k}")
        ideal = (v + 1) / 2 + m2 / 4
        v, m2 = ideal - (v + 1) / (2 * n), m2 / 4 + (v + 1) / (2 * n)


@pytest.mark.parametrize("rule", [{"use": "verify", "score": "truth"}, {"use": "likelihood", "rank": "top"}])
def test_a_chain_that_collapses_to_a_point_goes_on(sandbox, rule):
    """The highest densities of few rows: the variance shrinks below the resolution of a score, and nothing is left to
    choose by."""
    arm = {"data": "replace", "rows": 4, "curation": {**rule, "keep": 0.25}}
    text = RECIPE.format(
        data=json.dumps({"use": "gaussian", "rows": 4}),
        model="{use: gaussian}",
        metric="variance_ratio",
        generations=40,
        seeds=2,
        arms=json.dumps({"kept": arm}),
    )
    sandbox.run(text)
    figures = [line["figures"] for line in sandbox.journal(event="curation")]
    assert len(figures) == 40
    assert "tied" not in figures[0]
    assert figures[-1]["tied"] == [1.0, 1.0]
    assert not sandbox.journal(event="failed")
