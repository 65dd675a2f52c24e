"""The golden ratio: its formula, weights, where it changes nothing, bad input, and its variance through a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import RecipeError
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.remedies.golden import Golden, golden_ratio

BOTH = Plan((Source(REAL, 30), Source(0, 60)))


def asymptotic(w: float, k: float) -> float:
    """n x variance of a mean in the limit (He, Xu & Cheng 2025)."""
    return (w**2 + (1 - w) ** 2 / k) / (2 * w - w**2)


@pytest.mark.parametrize("k", [0.25, 0.5, 1.0, 2.0, 4.0, 16.0])
def test_the_ratio_minimises_the_asymptotic_variance_and_equals_it(k):
    w = golden_ratio(k)
    assert w == pytest.approx((math.sqrt(1 + 4 * k) - 1) / (2 * k))
    assert asymptotic(w, k) == pytest.approx(w)
    assert min(asymptotic(v, k) for v in np.linspace(0.01, 0.99, 981)) >= w - 1e-12


@pytest.mark.parametrize(("w", "expected"), [(None, golden_ratio(2.0)), (0.25, 0.25), (0.0, 0.0), (1.0, 1.0)])
def test_parts_of_the_loss(w, expected):
    """Sum of weights x losses / rows = w mean(real) + (1 - w) mean(generated), also for rows that have weights."""
    generations = torch.tensor([REAL] * 30 + [0] * 60)
    losses = torch.rand(90, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    base = torch.ones(90, dtype=torch.float64)
    weights = Golden(w=w).of_rows(BOTH, generations, base)
    mean = expected * losses[:30].mean() + (1 - expected) * losses[30:].mean()
    assert float((weights * losses).mean()) == pytest.approx(float(mean))
    base[30:] = torch.linspace(0.5, 1.5, 60)
    weights = Golden(w=w).of_rows(BOTH, generations, base)
    mean = expected * losses[:30].mean() + (1 - expected) * (base * losses)[30:].sum() / base[30:].sum()
    assert float((weights * losses).mean()) == pytest.approx(float(mean))
    assert float(weights.mean()) == pytest.approx(1.0)


def test_where_it_changes_nothing():
    assert Golden().changes(BOTH)
    assert not Golden(w=1 / 3).changes(BOTH)  # 30 of 90 rows are real
    for plan in (Plan((Source(REAL, 30),)), Plan((Source(0, 30), Source(1, 30)))):
        assert not Golden().changes(plan)
        assert not Golden(w=0.5).changes(plan)


def test_a_drawn_subset_of_one_kind_keeps_its_weights():
    base = torch.linspace(0.5, 1.5, 20, dtype=torch.float64)
    assert torch.equal(Golden().of_rows(BOTH, torch.full((20,), REAL), base), base)


RATIOS = {0.5: "2 / 3", 1.0: "1 / 2", 2.0: "1 / 3", 4.0: "1 / 5"}
ROWS, DIMENSIONS, GENERATIONS = 300, 4, 6


def exact(w: float, n: int, m: int) -> float:
    """n x E[(mean - true mean)^2] of each dimension at the last generation, by the law of total variance.

    u: the mean's expected square, v: the fitted variance, expected; both start with n + m real rows. The mean of the
    next fit has w^2 / n + (1 - w)^2 (v / m + u), and its variance is that of the mixture about its own mean.
    """
    u, v = 1 / (n + m), 1 - 1 / (n + m)
    for _ in range(GENERATIONS):
        mean = w**2 / n + (1 - w) ** 2 * (v / m + u)
        u, v = mean, w + (1 - w) * (v + u) - mean
    return n * u


@pytest.mark.slow
def test_variance_of_a_mean_is_the_golden_ratio(sandbox):
    """n new real rows and m = k n generated ones in every generation, through the real loop."""
    arms = []
    for k in RATIOS:
        share = 1 / (1 + k)
        arms.append(f"  k{k}: {{data: {{use: fresh, share: {share}}}, rows: {ROWS}, weighting: golden}}")
    arms.append(f"  pooled: {{data: {{use: fresh, share: 0.2}}, rows: {ROWS}}}")
    sandbox.run(
        f"""
name: golden
data: {{use: gaussian, dimensions: {DIMENSIONS}, rows: {ROWS + GENERATIONS * 200}}}
model: {{use: gaussian}}
generations: {GENERATIONS}
samples: {ROWS}
seeds: 300
arms:
"""
        + "\n".join(arms)
        + "\nmetrics: [mean_error]\n"
    )
    results = read_results(sandbox.root / "run")

    def measured(arm: str, n: int) -> tuple[float, float]:
        squares = n / DIMENSIONS * np.array(list(results.scores(arm, "mean_error", GENERATIONS).values())) ** 2
        return squares.mean(), squares.std(ddof=1) / math.sqrt(len(squares))

    for k in RATIOS:
        n, w = round(ROWS / (1 + k)), golden_ratio(k)
        value, error = measured(f"k{k}", n)
        assert abs(value - w) < 3 * error, f"k = {k}: {value:.3f} +- {error:.3f}, w* = {w:.3f}"
        assert exact(w, n, ROWS - n) == pytest.approx(w, rel=0.02)
        assert abs(value - exact(w, n, ROWS - n)) < 3 * error
    value, error = measured("pooled", ROWS // 5)  # without weights: w = 1 / (1 + k), which is far too little for k = 4
    assert abs(value - asymptotic(0.2, 4.0)) < 3 * error
    assert value > golden_ratio(4.0) + 3 * error


TOY = """
name: toy
data: {use: gaussian, dimensions: 2, rows: 40}
model: {use: gaussian}
generations: 2
samples: 40
seeds: 1
arms:
  plain: {data: mix}
  weighted: {data: mix, weighting: WEIGHTING}
metrics: [variance_ratio]
"""


def scores(sandbox):
    lines = sandbox.journal(event="scores")
    return {arm: [line["metrics"] for line in lines if line["arm"] == arm] for arm in ("plain", "weighted")}


def test_the_pooled_share_is_the_plain_arm(sandbox):
    """The same artefacts: data, and model, samples and scores of three generations."""
    assert sandbox.run(TOY.replace("WEIGHTING", "{use: golden, w: 0.5}"))["made"] == 1 + 3 * 3
    of = scores(sandbox)
    assert of["plain"] == of["weighted"]


def test_another_weight_is_another_model(sandbox):
    """Generation 0 is still shared."""
    assert sandbox.run(TOY.replace("WEIGHTING", "{use: golden, w: 0.9}"))["made"] == 1 + 3 + 2 * 2 * 3


FAMILIES = {
    "gaussian": ("{use: gaussian, dimensions: 2, rows: 30}", "gaussian", ""),
    "gmm": ("{use: gaussian, dimensions: 2, rows: 30}", "gmm", ""),
    "kde": ("{use: gaussian, dimensions: 2, rows: 30}", "kde", ""),
    "linear": ("{use: linear, dimensions: 2, rows: 30}", "linear", ""),
    "flow": ("{use: gaussian, dimensions: 2, rows: 30}", "{use: flow, hidden: 4, transforms: 1}", "steps: 3, "),
    "flow_matching": ("{use: gaussian, dimensions: 2, rows: 30}", "flow_matching", "steps: 3, "),
    "vae": ("{use: digits, rows: 30, held_out_rows: 10}", "{use: vae, hidden: 8, latent: 2}", "steps: 3, "),
    "causal_lm": (
        "{use: grammar, rows: 30, held_out_rows: 10}",
        "{use: causal_lm, preset: tiny, width: 8, layers: 1}",
        "steps: 3, ",
    ),
    "seq2seq": (
        "{use: grammar_pairs, rows: 30, held_out_rows: 10}",
        "{use: seq2seq, preset: tiny, width: 8, layers: 1}",
        "steps: 3, ",
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_rows_with_weights(name, sandbox):
    """Through `run`: the weighted arm ends elsewhere than the plain one. Budgets draw rows after they have weights."""
    data, model, train = FAMILIES[name]
    train = f"train: {{{train}batch_size: 8, evaluate: never}}" if train else ""
    recipe = f"""
name: every
data: {data}
model: {model}
{train}
generations: 1
samples: 30
seeds: 1
arms:
  plain: {{data: {{use: accumulate-subsample, budget: 40}}}}
  weighted: {{data: {{use: accumulate-subsample, budget: 40}}, weighting: {{use: golden, w: 0.95}}}}
metrics: [test_loss]
"""
    sandbox.run(recipe, metrics=["test_loss"])
    of = scores(sandbox)
    assert of["plain"][0] == of["weighted"][0]
    assert of["plain"][1] != of["weighted"][1]
    assert all(math.isfinite(value) for values in of["weighted"][1].values() for value in values)


def refusal(sandbox, recipe: str) -> str:
    with pytest.raises(RecipeError) as caught:
        sandbox.run(recipe)
    return str(caught.value)


def test_an_arm_without_generations_of_both_kinds_is_refused(sandbox):
    recipe = TOY.replace("WEIGHTING", "golden").replace("weighted: {data: mix", "weighted: {data: replace")
    message = refusal(sandbox, recipe)
    assert "arms.weighted.weighting: golden weighs real rows against generated ones, and no generation" in message
    assert "recipe.yaml:10" in message


def test_a_weight_outside_of_0_to_1_is_refused(sandbox):
    message = refusal(sandbox, TOY.replace("WEIGHTING", "{use: golden, w: 1.5}"))
    assert "arms.weighted.weighting.w: found 1.5; allowed: at most 1" in message


def test_a_family_without_row_losses_is_refused():
    from collapse_sim.families.hooks import check_row_weights

    class Plain:
        pass

    with pytest.raises(ValueError, match=r"Plain has no `row_losses` .* so its rows cannot have weights"):
        check_row_weights(Plain())
