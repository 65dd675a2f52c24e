"""Fits with a teacher of other sizes: their linear maps are learned, checkpointed, and no part of the model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from collapse_sim.core.randomness import Draws
from collapse_sim.engine import checkpoint
from collapse_sim.engine.fit import backward
from collapse_sim.engine.objective import SingleObjective
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.families.layers import LayerMaps
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.taught import layer_sizes
from collapse_sim.recipe.loader import load
from collapse_sim.testing import CPU
from tests.families.small_rows import IMAGES, image_rows
from tests.families.wording import built

RECIPE = """
name: taught
data: DATA
model: MODEL
train: {steps: 6, batch_size: 16, evaluate: never, clip_norm: 1.0}
generations: 1
samples: 40
sampling: {shard: 20}
seeds: [0, 1]
arms:
  taught: {data: replace, teacher: {criterion: cosine, model: WIDE, weights: {OWN: 0.5, "layer PATH": 2.0}}}
metrics: [test_loss]
"""
CASES = {
    "images": (
        "{use: digits, rows: 40, held_out_rows: 10}", "{use: vae, hidden: 8, latent: 2}", "{hidden: 12}",
        "output", "encoder.1",
    ),
    "channels": (
        "{use: digits, rows: 40, held_out_rows: 10}",
        "{use: ddpm, network: {widths: [4, 4], attention: none}, timesteps: 30, schedule: cosine}",
        "{network: {widths: [8, 8]}}", "output", "unet.mid_block",
    ),
    "texts": (
        "{use: grammar, rows: 40, held_out_rows: 10}", "{use: causal_lm, preset: tiny, width: 16, layers: 1}",
        "{width: 32}", "logits", "network.transformer.h.0",
    ),
}  # fmt: skip


def recipe(case):
    text = RECIPE
    for name, value in zip(("DATA", "MODEL", "WIDE", "OWN", "PATH"), CASES[case], strict=True):
        text = text.replace(name, value)
    return text


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case == "texts")) for case in CASES])
def test_a_killed_fit_with_maps_ends_in_the_same_bytes_and_has_none_of_them(sandbox, monkeypatch, case):
    sandbox.run(recipe(case), run="whole")
    reference = sandbox.artefacts()
    (plan,) = prepare(load(sandbox.recipe(recipe(case))), sandbox.root).arm_plans
    for file in sandbox.root.glob(f".store/objects/*/{plan.generations[1].fit.digest}/*/model.safetensors"):
        weights = load_file(file)
        assert not any("maps" in name for name in weights)
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    saved = []

    class Killed(BaseException):
        pass

    def boundary(name):
        saved.extend(name for _ in [0] if name == "checkpoint")
        if len(saved) == 5 * 4 + 3:  # two fits of generation 0 and two of its teacher have 5 each, then 3 of 5
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "boundary", boundary)
        with pytest.raises(Killed):
            other.run(recipe(case), checkpoint_s=0.0)
    (last,) = [max(f.glob("step-*.safetensors")) for f in (other.root / ".store" / "partial").iterdir()]
    state = load_file(last)
    assert any(name.startswith("maps/") for name in state)
    other.run(recipe(case), checkpoint_s=0.0)
    assert other.artefacts() == reference


SMALL, WIDE = VAE(hidden=8, latent=2), VAE(hidden=12, latent=2)
PATHS = ("encoder.0", "encoder.2")  # of different and of equal sizes


def parts():
    objective = TrainingLoss(SMALL, layers=PATHS, teaching=WIDE)
    inputs = SMALL.corrupt({"image": image_rows(IMAGES)["image"]}, Draws((0,), "corrupt", 0))
    torch.manual_seed(5)
    maps = LayerMaps(layer_sizes(SMALL, WIDE, IMAGES, PATHS))
    return objective, built(SMALL, IMAGES, 0), built(WIDE, IMAGES, 1), inputs, maps


def gradients(*modules):
    return [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]


def test_the_term_is_the_distance_of_the_mapped_output():
    """By hand: mean((W h + b - h_teacher)^2) over features, with gradients for W and b and the student."""
    objective, student, teacher, inputs, maps = parts()
    weights = {"layer encoder.0": 3.0}
    loss = backward(objective, student, inputs, CPU, CPU.scaler(), teacher, weights, maps=maps)
    own = gradients(student, maps)
    for module in (student, maps):
        module.zero_grad()
    (linear,) = maps.maps.values()
    target = teacher.encoder[0](inputs["x"]).detach()
    distance = (F.linear(student.encoder[0](inputs["x"]), linear.weight, linear.bias) - target).square().mean()
    expected = SMALL.loss(SMALL.predict(student, inputs), inputs) / inputs.count + 3 * distance
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for one, reference in zip(own, gradients(student, maps), strict=True):
        torch.testing.assert_close(one, reference, rtol=1e-4, atol=1e-7)


def test_named_terms_of_equal_shapes_are_as_with_a_teacher_of_the_same_size():
    objective, student, teacher, inputs, maps = parts()
    loss = backward(objective, student, inputs, CPU, CPU.scaler(), teacher, {"output": 0.5}, maps=maps)
    prediction, target = SMALL.predict(student, inputs), WIDE.predict(teacher, inputs)
    term = SMALL.distillation(prediction, target, inputs)["output"]
    torch.testing.assert_close(loss, ((SMALL.loss(prediction, inputs) + 0.5 * term) / inputs.count).detach())


def test_as_a_function_of_tensors_it_is_the_same():
    """What compiled steps are made from."""
    objective, student, teacher, inputs, maps = parts()
    weights = {"output": 0.5, "layer encoder.0": 3.0, "layer encoder.2": 1.0}
    loss = backward(objective, student, inputs, CPU, CPU.scaler(), teacher, weights, maps=maps)
    own = gradients(student, maps)
    for module in (student, maps):
        module.zero_grad()
    function = SingleObjective(objective, student, teacher, weights, CPU, maps)
    value = function(**function.arguments(inputs))
    value.backward()
    torch.testing.assert_close(value.detach(), loss)
    for one, reference in zip(gradients(student, maps), own, strict=True):
        torch.testing.assert_close(one, reference, rtol=1e-4, atol=1e-7)
