"""Teachers that are fits of their own: what they are fitted to, and that students learn from them."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.core.machine import open_device
from collapse_sim.engine import artefacts
from collapse_sim.engine.work import Stop
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.store.store import Store

RECIPE = """
data: {use: digits, rows: 40, held_out_rows: 10}
model: {use: vae, hidden: 8, latent: 2}
train: {steps: 4, batch_size: 16, evaluate: never}
generations: 2
samples: 40
seeds: [0]
arms:
  plain: {data: replace}
  half: {data: replace, teacher: {rows: 20, weights: {output: 1.0}}}
  few rows: {data: replace, rows: 20}
  untrained: {data: replace, teacher: {untrained: true, weights: {output: 1.0}}}
metrics: [test_loss]
"""


def weights(sandbox, text, arm, of):
    """The tensors of a fit of an arm."""
    experiment = prepare(load(sandbox.recipe(text)), sandbox.root)
    plan = next(plan for plan in experiment.arm_plans if plan.name == arm)
    store = Store(sandbox.root / ".store", Stop().check)
    return artefacts.model(store, of(plan.generations), (0,), open_device("cpu")).state_dict()


def same(left, right, tolerance=0.0):
    return left.keys() == right.keys() and all(
        torch.allclose(left[name], right[name], rtol=0, atol=tolerance) for name in left
    )


@pytest.mark.parametrize(("ensemble", "tolerance"), [("off", 0.0), ("8", 1e-6)])
def test_the_teacher_is_what_it_says(sandbox, ensemble, tolerance):
    sandbox.run(RECIPE, ensemble=ensemble)
    assert not sandbox.journal(event="failed")
    half = weights(sandbox, RECIPE, "half", lambda generations: generations[1].fit.teacher)
    assert same(half, weights(sandbox, RECIPE, "few rows", lambda generations: generations[0].fit), tolerance)
    untrained = weights(sandbox, RECIPE, "untrained", lambda generations: generations[1].fit.teacher)
    still = RECIPE.replace("batch_size: 16,", "batch_size: 16, learning_rate: 1e-30,")  # updates that change nothing
    sandbox.run(still, run="still")
    assert same(untrained, weights(sandbox, still, "plain", lambda generations: generations[0].fit))
    students = {
        arm: weights(sandbox, RECIPE, arm, lambda generations: generations[1].fit)
        for arm in ("plain", "half", "untrained")
    }
    assert not same(students["plain"], students["half"])
    assert not same(students["plain"], students["untrained"])


@pytest.mark.slow
def test_an_untrained_language_model_teaches(sandbox):
    """A fit of no update has no last batch, and its loss is checked all the same."""
    text = RECIPE.replace("{use: digits, rows: 40, held_out_rows: 10}", "{use: grammar, rows: 40, held_out_rows: 10}")
    text = text.replace("{use: vae, hidden: 8, latent: 2}", "{use: causal_lm, preset: tiny, width: 16, layers: 1}")
    sandbox.run(text.replace("output: 1.0", "logits: 1.0").replace("test_loss", "perplexity"))
    assert not sandbox.journal(event="failed")
