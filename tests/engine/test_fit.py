"""The optimisation loop against plain PyTorch, closed values and invariants."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.randomness import Draws, derive, start
from collapse_sim.engine.fit import backward, take_step
from collapse_sim.engine.optimizers import make_optimizer
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.families.training import Train
from collapse_sim.families.vae import VAE
from collapse_sim.testing import CPU
from tests.conftest import TINY


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimizer_takes_the_recipes_settings(name):
    model = torch.nn.Linear(2, 2)
    settings = Train(
        steps=10, optimizer=name, learning_rate=0.1, weight_decay=0.2, decay="all", betas=(0.8, 0.9), momentum=0.7
    )
    (group,) = make_optimizer(settings, model).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.2)
    assert group.get("betas", (0.8, 0.9)) == (0.8, 0.9)
    assert group.get("momentum", 0.7) == 0.7


def fitted(sandbox, digest_of_kind="fit"):
    """(manifest, model state, history) of every fit in the store."""
    found = []
    for path in sorted((sandbox.root / ".store" / "objects").glob("*/*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        if manifest["kind"] == digest_of_kind and "train" in manifest["description"]:
            state = load_file(path.parent / "model.safetensors")
            history = json.loads((path.parent / "history.json").read_text())
            found.append((manifest, state, history["evaluations"]))
    return found


ONE = """
name: one
data: {use: digits, rows: 100, held_out_rows: 40, validation_rows: 30}
model: {use: vae, hidden: 8, latent: 2}
train: {TRAIN}
samples: 50
generations: 1
seeds: [3]
arms: {replace: {data: replace}}
metrics: [test_loss]
"""


def first_fit(sandbox, settings):
    sandbox.run(ONE.replace("{TRAIN}", "{" + settings + "}"))
    return next(f for f in fitted(sandbox) if f[0]["generation"] == 0)


def test_fit_equals_a_plain_training_loop(sandbox):
    """Twelve steps written out in plain PyTorch give the same weights to the last bit."""
    _, state, _ = first_fit(sandbox, "steps: 12, batch_size: 30, learning_rate: 1e-2, weight_decay: 0.1, decay: all")
    from collapse_sim.data.images.digits import Digits

    data = Digits(rows=100, held_out_rows=40)
    source, _ = data.open(sandbox.root)
    real = source.read(0, len(source))
    left = np.sort(np.random.RandomState(0).permutation(1437)[30:])  # but for the validation rows
    order = Draws((3,), "real order", 0).permutation(1407)[:100]
    images = torch.from_numpy(real["image"][left])[order]
    family, info = VAE(hidden=8, latent=2), data.inspect(sandbox.root)
    start(torch.default_generator, derive(3, "init", 0))
    model = family.build(info)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    for step in range(12):
        permutation = Draws((3,), "order", 0, step // 4).permutation(100)
        batch = images[permutation[step % 4 * 30 : step % 4 * 30 + 30]]
        x = batch.flatten(1) / 255
        eps = Draws((3,), "corrupt", 0, step).normal(len(batch), 2)
        mean, log_variance = model.encoder(x).chunk(2, dim=1)
        logits = model.decoder(mean + (0.5 * log_variance).exp() * eps)
        reconstruction = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        optimizer.zero_grad()
        ((reconstruction / 64 + kl / 64) / len(batch)).backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-5, atol=1e-6)


def loss_on(sandbox, rows: np.ndarray, state: dict[str, torch.Tensor]) -> float:
    """Of the digits with these numbers, by the draws that any evaluation of the first fit has."""
    from collapse_sim.data.images.digits import Digits

    source, _ = Digits().open(sandbox.root)
    family = VAE(hidden=8, latent=2)
    model = family.build(Digits().inspect(sandbox.root)).eval()
    model.load_state_dict(state)
    images = torch.from_numpy(source.read(0, len(source))["image"][np.sort(rows)])
    inputs = family.corrupt({"image": images}, Draws((3,), "test_loss/0", 0))
    with torch.no_grad():
        return float(family.loss(family.predict(model, inputs), inputs)) / len(rows)


def test_keep_best_keeps_the_least_loss_on_rows_of_its_own(sandbox):
    """With a rate so high that the loss jumps about, the kept weights are those of the best evaluation, on rows that
    are neither trained on nor reported."""
    settings = "steps: 40, batch_size: 25, learning_rate: 1.0, evaluate: every 4 steps, keep: best"
    manifest, state, history = first_fit(sandbox, settings)
    losses = [entry["validation_loss"] for entry in history]
    assert len(losses) == 10
    assert losses.index(min(losses)) != len(losses) - 1, "pick another rate: the last is the best"
    validation = np.random.RandomState(0).permutation(1437)[:30]
    assert loss_on(sandbox, validation, state) == pytest.approx(min(losses), rel=1e-6)
    scores = sandbox.journal(event="scores")[0]["metrics"]["test_loss"]
    assert scores[0] != pytest.approx(min(losses), rel=1e-3)  # which are other rows
    assert manifest["seeds"] == [3]


def test_a_fit_ends_when_the_validation_loss_falls_no_more(sandbox):
    """The protocol `converged`: five evaluations in a row that are no better than the best; its weights are kept."""
    sandbox.run(
        ONE.replace("{TRAIN}", "{steps: 40, batch_size: 25, learning_rate: 5e-2, evaluate: every 4 steps}")
        + "protocol: converged\n"
    )
    _, state, history = next(f for f in fitted(sandbox) if f[0]["generation"] == 0)
    losses = [entry["validation_loss"] for entry in history]
    best = losses.index(min(losses))
    assert len(losses) - 1 - best == 5 or len(losses) == 200
    assert len(losses) < 200, "pick another rate: it never settles"
    validation = np.random.RandomState(0).permutation(1437)[:30]
    assert loss_on(sandbox, validation, state) == pytest.approx(min(losses), rel=1e-6)
    (line,) = (line for line in sandbox.journal(event="scores") if line["generation"] == 0)
    assert line["updates"] == [4 * len(losses)]


def test_norms_biases_and_embeddings_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    settings = Train(steps=10, weight_decay=0.5, learning_rate=0.1)
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    optimizer = make_optimizer(settings, model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # without a gradient AdamW only decays, by the factor 1 - 0.1 * 0.5
    for name, tensor in model.named_parameters():
        factor = 0.95 if name == "1.weight" else 1.0
        torch.testing.assert_close(tensor, factor * before[name])
    decaying = make_optimizer(Train(steps=10, weight_decay=0.5, decay="all"), model).param_groups
    assert [len(group["params"]) for group in decaying] == [5]


def test_a_step_that_overflows_moves_nothing():
    """fp16's scaler skips an update whose gradients are not finite: neither schedule nor averages count it."""

    class Scaler(torch.amp.GradScaler):
        """Enabled on the CPU, as it would be for fp16 on CUDA."""

    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], 0.1)
    scaler = Scaler("cpu", init_scale=8.0)
    taken = []
    for gradient in (1.0, float("inf"), 1.0):
        scaler.scale(weight.sum() * gradient).backward()
        scaler.unscale_(optimizer)
        taken.append(take_step(scaler, optimizer))
        optimizer.zero_grad()
    assert taken == [True, False, True]
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.8))


def test_ema_is_the_average_that_its_decay_says(sandbox):
    """Averages of 0, 1, 2, ... steps by hand: the first update copies, later ones decay."""
    states = {}
    for steps in (1, 2, 3):
        other = type(sandbox)(sandbox.root / f"plain{steps}")
        other.root.mkdir()
        _, states[steps], _ = first_fit(other, f"steps: {steps}, batch_size: 25, learning_rate: 1e-2")
    _, averaged, _ = first_fit(sandbox, "steps: 3, batch_size: 25, learning_rate: 1e-2, ema: 0.75")
    for name in averaged:
        expected = states[1][name]
        for steps in (2, 3):
            expected = 0.75 * expected + 0.25 * states[steps][name]
        torch.testing.assert_close(averaged[name], expected)


def test_gradient_accumulation_gives_the_same_model(sandbox):
    _, whole, _ = first_fit(sandbox, "steps: 8, batch_size: 32, learning_rate: 1e-2, optimizer: sgd")
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    _, parts, _ = first_fit(other, "steps: 8, batch_size: 32, learning_rate: 1e-2, optimizer: sgd, accumulate: 4")
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)


def test_clip_norm_bounds_the_update(sandbox):
    """One SGD step without momentum moves the weights by at most rate x norm."""
    _, before, _ = first_fit(sandbox, "steps: 1, batch_size: 32, learning_rate: 1e-9, optimizer: sgd, momentum: 0.0")
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    settings = "steps: 1, batch_size: 32, learning_rate: 1.0, optimizer: sgd, momentum: 0.0, clip_norm: 0.01"
    _, after, _ = first_fit(other, settings)
    moved = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_all_weights_zero_is_m1():
    """As a key: a teacher that has no weight is no teacher. As numbers: the gradients are the same."""
    from collapse_sim.data.base import Info

    info = Info("images", {"image": ((1, 8, 8), "uint8")}, 8, 8, 8)
    family = VAE(hidden=8, latent=2)
    rows = {"image": torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)}
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 1))
    model, teacher = family.build(info), family.build(info)
    gradients = []
    for weights in ({}, dict.fromkeys(family.terms, 0.0)):
        model.zero_grad()
        backward(TrainingLoss(family), model, inputs, CPU, CPU.scaler(), teacher if weights else None, weights)
        gradients.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_zero_weight_arm_shares_its_artefacts_with_m1(sandbox):
    result = sandbox.run(
        ONE.replace("{TRAIN}", "{steps: 2}").replace(
            "arms: {replace: {data: replace}}",
            """
arms:
  M1: {data: replace}
  zero: {data: replace, teacher: {generation: 0, weights: {output: 0.0, mean: 0.0, variance: 0.0}}}
""",
        )
    )
    assert result["made"] == 1 + 3 + 3  # the data, and a fit, samples and a score for each of two generations
    scores = {line["arm"]: line["metrics"] for line in sandbox.journal(event="scores") if line["generation"] == 1}
    assert scores["M1"] == scores["zero"]


def test_init_previous_starts_from_the_previous_generation(sandbox):
    """With a vanishing rate nothing moves: generation 1 keeps generation 0's weights; started fresh it does not."""
    recipe = ONE.replace("{TRAIN}", "{steps: 1, learning_rate: 1e-12}").replace(
        "arms: {replace: {data: replace}}",
        "arms: {fresh: {data: replace}, previous: {data: replace, init: previous}}",
    )
    sandbox.run(recipe)
    by_init = {(m["generation"], m["description"]["init"] is not None): state for m, state, _ in fitted(sandbox)}
    name = "encoder.0.weight"
    zero = by_init[0, False][name]
    torch.testing.assert_close(by_init[1, True][name], zero)
    assert not torch.allclose(by_init[1, False][name], zero)


def test_divergence_names_the_step_and_keeps_what_is_finished(sandbox):
    recipe = ONE.replace("{TRAIN}", "{steps: 50, learning_rate: 1e9, optimizer: sgd, evaluate: never}")
    (found,) = sandbox.run(recipe)["diverged"]
    assert re.match(r"replace, generation 0, seed 3: the loss became non-finite at step \d+", found["message"])
    assert "there is no earlier checkpoint" in found["message"]
    slower = recipe.replace("learning_rate: 1e9", "learning_rate: 1e4")
    (found,) = sandbox.run(slower, run="b", checkpoint_s=0.0)["diverged"]
    assert re.search(r"the last good checkpoint is .*step-0000000\d\d\.safetensors", found["message"])


def test_arms_are_paired(sandbox):
    """Two arms that plan the same rows share every artefact; the sampling seed differs by generation."""
    sandbox.run(TINY)
    lines = sandbox.journal(event="scores")
    zero = [line for line in lines if line["generation"] == 0]
    assert zero[0]["fit"] == zero[1]["fit"]
    assert zero[0]["samples"] == zero[1]["samples"]
    assert derive(0, "sample", 1) != derive(0, "sample", 2)
    assert derive(0, "sample", 1) != derive(1, "sample", 1)
