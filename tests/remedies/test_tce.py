"""Truncated cross-entropy against its formula, written out; on texts through `run`; bad input."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.engine.training_loss import ForwardPass, TrainingLoss
from collapse_sim.remedies.tce import TruncatedCrossEntropy
from tests.families.wording import TEXT, TINY, built, texts


def batch():
    """A model, and a batch of texts of unequal lengths."""
    return built(TINY, TEXT), TINY.corrupt(texts(), Draws((0,), "corrupt", 0))


def log_p(model, inputs):
    """log p of every predicted token, by hand."""
    logits = TINY.predict(model, inputs).logits.float().log_softmax(-1)
    targets = inputs["tokens"][:, 1 : 1 + logits.shape[1]]
    logits = logits[:, : targets.shape[1]]
    real = targets >= 0
    return logits.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)[real]


@pytest.mark.parametrize("renormalise", [False, True])
def test_the_published_loss(renormalise):
    """A threshold that half of the tokens exceed; the mean is over all tokens, or over those that count."""
    model, inputs = batch()
    with torch.no_grad():
        nats = -log_p(model, inputs)
        threshold = float((-nats).exp().median())
        weighting = TruncatedCrossEntropy(threshold=threshold, renormalise=renormalise)
        objective = TrainingLoss(TINY, weighting)
        mean = objective.loss(objective.predict(model, inputs), inputs) / inputs.count
    kept = (-nats).exp() <= threshold
    assert 0.3 < float(kept.float().mean()) < 0.7
    expected = nats[kept].sum() / (kept.sum() if renormalise else len(nats))
    assert float(mean) == pytest.approx(float(expected), rel=1e-4)


def test_no_gradient_flows_through_the_mask():
    nats = torch.tensor([[0.5, 2.0]], requires_grad=True)
    weighting = TruncatedCrossEntropy(threshold=0.5)
    (weighting.factors(nats) * nats).sum().backward()
    assert nats.grad is not None
    assert nats.grad.tolist() == [[0.0, 1.0]]


def test_padding_does_not_count():
    assert TruncatedCrossEntropy().factors(torch.zeros(2, 3)).sum() == 0


TALES = """
name: tales
data: {use: grammar, rows: 40, held_out_rows: 10}
model: {use: causal_lm, preset: tiny, width: 8, layers: 1}
train: {steps: 4, batch_size: 16, evaluate: never, accumulate: 1}
samples: 40
generations: 1
seeds: [0]
arms:
  plain: {data: accumulate}
  weighted: {data: accumulate, weighting: WEIGHTING}
metrics: [test_loss]
"""


def artefacts_of(sandbox, weighting, *changes):
    recipe = TALES.replace("WEIGHTING", weighting)
    for old, new in changes:
        recipe = recipe.replace(old, new)
    return sandbox.run(recipe, metrics=["test_loss"])["made"]


@pytest.mark.parametrize(
    "weighting", ["{use: tce, threshold: 0.0039}", "{use: tce, threshold: 0.0039, renormalise: true}"]
)
def test_it_is_another_fit_in_every_generation(weighting, sandbox):
    assert artefacts_of(sandbox, weighting) == 1 + 2 * 3 * 2
    lines = sandbox.journal(event="scores")
    losses = {(line["arm"], line["generation"]): line["metrics"]["test_loss"][0] for line in lines}
    assert losses["plain", 0] != losses["weighted", 0]


def test_the_threshold_1_is_the_plain_arm(sandbox):
    assert artefacts_of(sandbox, "{use: tce, threshold: 1.0}") == 1 + 2 * 3


def test_renormalise_needs_the_whole_batch(sandbox):
    with pytest.raises(RecipeError, match=r"recipe.yaml:11: arms.weighted.weighting: renormalise divides by .*"):
        artefacts_of(sandbox, "{use: tce, renormalise: true}", ("accumulate: 1", "accumulate: 2"))


def test_micro_batches_add_up(sandbox):
    """As published: the mean is over all tokens of the batch, in one part or in two."""
    artefacts_of(sandbox, "{use: tce, threshold: 0.0039}")
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    artefacts_of(other, "{use: tce, threshold: 0.0039}", ("accumulate: 1", "accumulate: 2"))

    def losses(run):
        return [line["metrics"]["test_loss"][0] for line in run.journal(event="scores") if line["generation"] == 0]

    assert losses(sandbox) == pytest.approx(losses(other), rel=1e-4)


def test_images_have_no_tokens(sandbox):
    recipe = TALES.replace("WEIGHTING", "tce").replace("{use: grammar,", "{use: digits,")
    recipe = recipe.replace("{use: causal_lm, preset: tiny, width: 8, layers: 1}", "{use: vae, hidden: 8}")
    with pytest.raises(RecipeError, match=r"arms.weighted.weighting: VAE has no `token_losses`"):
        sandbox.run(recipe)


def test_the_forward_pass_of_an_objective_is_the_familys():
    model, inputs = batch()
    passed = TrainingLoss(TINY).predict(model, inputs)
    assert isinstance(passed, ForwardPass)
    assert torch.equal(passed.prediction.logits, TINY.predict(model, inputs).logits)
