"""Weights of a fit's rows: by generation, by a curation, and both; in a real fit against plain PyTorch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.randomness import Draws, derive, start
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.engine import choice
from collapse_sim.engine.row_weights import row_weights
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.specs import fit_spec
from collapse_sim.recipe.loader import load
from collapse_sim.remedies.golden import Golden
from tests.conftest import TINY, changed

RECIPE = """
name: weights
data: {use: digits, rows: 20, held_out_rows: 10}
model: {use: vae, hidden: 8, latent: 2}
train: {steps: 6, batch_size: 12, evaluate: never}
generations: 1
samples: 40
seeds: [3]
arms:
  plain: {data: {use: mix, synthetic: 2.0}}
  weighted: {data: {use: mix, synthetic: 2.0}, weighting: {use: golden, w: 0.6}}
metrics: [test_loss]
"""


@pytest.fixture
def base(sandbox):
    """The spec of the plain arm's generation 1: 20 real and 40 generated rows."""
    return prepare(load(sandbox.recipe(RECIPE)), sandbox.root).arm_plans[0].generations[1].fit


def spec(fit, weighting, plan=None):
    return fit_spec(1, fit.family, fit.train, plan or fit.plan, fit.data, fit.past, weighting=weighting)


def test_without_weights(base):
    assert row_weights(base, 3) is None


def test_of_generations(base):
    weights = row_weights(spec(base, Golden(w=0.6)), 3)
    assert weights is not None
    np.testing.assert_allclose(weights, [0.6 * 60 / 20] * 20 + [0.4 * 60 / 40] * 40)


def test_rows_that_are_drawn_keep_their_parts(base):
    """With a budget, w is of the rows that were drawn, whatever their numbers are."""
    fit = spec(base, Golden(w=0.6), Plan((Source(REAL, 20), Source(0, 40)), budget=30))
    real = choice.subsample(fit, 3) < 20
    weights = row_weights(fit, 3).numpy()
    assert 0 < real.sum() < 30
    assert weights[real].sum() == pytest.approx(0.6 * 30)
    assert weights[~real].sum() == pytest.approx(0.4 * 30)


def test_of_a_curation(base):
    """It compares rows of one generation; how generations compare with each other is for the weighting to say."""
    curated = torch.cat([torch.ones(20), torch.linspace(1, 5, 40)])
    alone = row_weights(base, 3, curated)
    np.testing.assert_allclose(alone, [1.0] * 20 + list(np.linspace(1, 5, 40) / 3), rtol=1e-6)
    both = row_weights(spec(base, Golden(w=0.6)), 3, curated)
    np.testing.assert_allclose(both, alone.numpy() * ([1.8] * 20 + [0.6] * 40), rtol=1e-6)


def test_a_weighted_fit_equals_a_plain_training_loop(sandbox):
    """Six steps written out: w mean(real) + (1 - w) mean(generated), in expectation over batches."""
    sandbox.run(RECIPE)
    experiment = prepare(load(sandbox.recipe(RECIPE)), sandbox.root)
    family, info = VAE(hidden=8, latent=2), experiment.info
    stored = {}
    for path in (sandbox.root / ".store" / "objects").glob("*/*/*/manifest.json"):
        stored[json.loads(path.read_text())["digest"]] = path.parent
    weighted = experiment.arm_plans[1].generations
    order = Draws((3,), "real order", 0).permutation(info.pool)[:20]
    real = load_file(stored[experiment.data.digest] / "real.safetensors")["image"]
    generated = load_file(stored[weighted[0].samples.digest] / "samples.safetensors")["image"]
    rows = torch.cat([real if len(real) == 20 else real[order], generated])
    weights = torch.tensor([1.8] * 20 + [0.6] * 40)
    start(torch.default_generator, derive(3, "init", 1))
    model = family.build(info)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    for step in range(6):
        batch = Draws((3,), "order", 1, step // 5).permutation(60)[step % 5 * 12 :][:12]
        inputs = family.corrupt({"image": rows[batch]}, Draws((3,), "corrupt", 1, step))
        losses = family.row_losses(family.predict(model, inputs), inputs)
        optimizer.zero_grad()
        (weights[batch] * losses).sum().div(12).backward()
        optimizer.step()
    state = load_file(stored[weighted[1].fit.digest] / "model.safetensors")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-4, atol=1e-6)


GROUPED = changed(
    TINY,
    ("generations: 2", "generations: 1"),
    ("seeds: [0, 1]", "seeds: [0]"),
    (
        "metrics:",
        "  golden: {data: accumulate, weighting: golden}\n"
        "  more: {data: accumulate, weighting: {use: golden, w: 0.9}}\nmetrics:",
    ),
)


def test_weighted_fits_are_computed_together(sandbox):
    """Two weightings of the same rows share a group; the plain arm is not in it."""
    from tests.engine.test_stacked import both

    alone, together = both(sandbox, GROUPED)
    groups = [manifest["group"] for _, manifest in together.values() if manifest.get("group")]
    assert [len(group) for group in groups] == [2, 2]
    for key, (state, _) in alone.items():
        for name, tensor in state.items():
            torch.testing.assert_close(together[key][0][name], tensor, rtol=2e-3, atol=2e-4)


def test_a_killed_weighted_fit_resumes_to_the_same_bytes(sandbox, monkeypatch):
    from collapse_sim.core.errors import InterruptedRunError
    from collapse_sim.engine import fit
    from tests.engine.test_stacked import beside, stopping

    sandbox.run(RECIPE)
    other = beside(sandbox, "other")
    with monkeypatch.context() as patch:
        stopping(patch, fit, "backward")
        with pytest.raises(InterruptedRunError):
            other.run(RECIPE, checkpoint_s=0.0)
    other.run(RECIPE)
    assert other.artefacts() == sandbox.artefacts()


def test_of_a_curation_of_all_past_rows(base):
    """It compares rows of all generations; a weighting over it says how generations compare."""
    kept = np.array([0, 5, 25, 59])  # two real rows, two generated ones
    curated = torch.tensor([1.0, 3.0, 1.0, 1.0])
    np.testing.assert_allclose(row_weights(base, 3, curated, kept), [4 / 6, 2.0, 4 / 6, 4 / 6])
    both = row_weights(spec(base, Golden(w=0.6)), 3, curated, kept)
    np.testing.assert_allclose(both, [0.6, 1.8, 0.8, 0.8])
